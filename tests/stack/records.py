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


def _run(brokers, *arguments, data=b""):
    tool = os.path.join(build_folder(), "tests", "tools", "kafka_records")
    done = subprocess.run([tool, brokers, *arguments], input=data, capture_output=True)
    if done.returncode:
        raise StackError(done.stderr.decode(errors="replace").strip())
    return done.stdout.decode("ascii").splitlines()


def _word(data):
    return "-" if data is None else "x" + data.hex()


def _bytes(word):
    return None if word == "-" else bytes.fromhex(word[1:])


def send(brokers, topic, records):
    """Sends Records in order."""
    lines = []
    for record in records:
        words = [str(record.partition), "0", str(record.timestamp_ms), _word(record.key), _word(record.value)]
        for name, value in record.headers:
            words += [_word(name.encode()), _word(value)]
        lines.append(" ".join(words) + "\n")
    _run(brokers, "produce", topic, data="".join(lines).encode())


def read(brokers, topic):
    """All Records of a topic, in order within each partition."""
    records = []
    for line in _run(brokers, "consume", topic):
        partition, offset, timestamp_ms, key, value, *rest = line.split(" ")
        words = [_bytes(word) for word in rest if word]
        headers = [(name.decode(), value) for name, value in zip(words[::2], words[1::2])]
        records.append(Record(_bytes(value), _bytes(key), headers, int(partition), int(timestamp_ms), int(offset)))
    return records


def committed(brokers, group, topic):
    """{partition: (offset, metadata)} of a group's commits; partitions without one are left out."""
    found = {}
    for line in _run(brokers, "committed", group, topic):
        partition, offset, metadata = line.split(" ")
        if int(offset) >= 0:
            found[int(partition)] = (int(offset), _bytes(metadata) or b"")
    return found
