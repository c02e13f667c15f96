"""Records byte for byte, through tests/tools/kafka_records.c: what kcat can't send or show."""

import dataclasses
import os
import subprocess

from .process import StackError
from .stack import build_folder


@dataclasses.dataclass
class Record:
    """Key and value are bytes or None; headers are (name, bytes or None), in order, names may repeat."""

    value: bytes | None
    key: bytes | None = None
    headers: list = dataclasses.field(default_factory=list)
    partition: int = -1  # to be sent: -1 goes by key
    timestamp_ms: int = 0  # to be sent: 0 is now
    offset: int = -1

    def header(self, name):
        """The last header of that name, as text; None when there is none."""
        found = [value for have, value in self.headers if have == name]
        return found[-1].decode() if found else None

    def names(self):
        return [name for name, _ in self.headers]


def _call(brokers, *arguments, data=b""):
    """Returns (lines of output, what went wrong or None)."""
    tool = os.path.join(build_folder(), "tests", "tools", "kafka_records")
    done = subprocess.run([tool, brokers, *arguments], input=data, capture_output=True)
    wrong = done.stderr.decode(errors="replace").strip() or f"kafka_records: exit {done.returncode}"
    return done.stdout.decode("ascii").splitlines(), wrong if done.returncode else None


def _run(brokers, *arguments):
    lines, wrong = _call(brokers, *arguments)
    if wrong:
        raise StackError(wrong)
    return lines


def _word(data):
    return "-" if data is None else "x" + data.hex()


def _bytes(word):
    return None if word == "-" else bytes.fromhex(word[1:])


def send(brokers, topic, records, compression="none"):
    """
    Sends Records in order, acks=all. Returns (reports, what went wrong or None); a report is (index of the record,
    partition, offset, timestamp_ms). A record without a report may be in the topic or not.
    """
    lines = []
    for record in records:
        line = f"{record.partition} 0 {record.timestamp_ms} {_word(record.key)} {_word(record.value)}"
        for name, value in record.headers:
            line += f" {_word(name.encode())} {_word(value)}"
        lines.append(line + "\n")
    reports, wrong = _call(brokers, "produce", topic, compression, data="".join(lines).encode())
    return [tuple(map(int, report.split(" "))) for report in reports if report.count(" ") == 3], wrong


def read(brokers, topic):
    """All Records of a topic, in order within each partition."""
    records = []
    for line in _run(brokers, "consume", topic):
        partition, offset, timestamp_ms, key, value, *rest = line.split(" ")
        words = [_bytes(word) for word in rest if word]
        headers = [(name.decode(), value) for name, value in zip(words[::2], words[1::2])]
        records.append(Record(_bytes(value), _bytes(key), headers, int(partition), int(timestamp_ms), int(offset)))
    return records


def ranges(brokers, *topics):
    """{(topic, partition): (first offset, end of the log)}"""
    found = {}
    for line in _run(brokers, "ranges", *topics):
        topic, partition, start, end = line.split(" ")
        found[topic, int(partition)] = int(start), int(end)
    return found


def committed(brokers, group, topic):
    """{partition: (offset, metadata)} of a group's commits; partitions without one are left out."""
    found = {}
    for line in _run(brokers, "committed", group, topic):
        partition, offset, metadata = line.split(" ")
        if int(offset) >= 0:
            found[int(partition)] = (int(offset), _bytes(metadata) or b"")
    return found
