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


def _line(record):
    line = f"{record.partition} 0 {record.timestamp_ms} {_word(record.key)} {_word(record.value)}"
    for name, value in record.headers:
        line += f" {_word(name.encode())} {_word(value)}"
    return line + "\n"


def _report(line):
    return tuple(map(int, line.split(" ")))


def send(brokers, topic, records, compression="none"):
    """
    Sends Records in order, acks=all. Returns (reports, what went wrong or None); a report is (index of the record,
    partition, offset, timestamp_ms). A record without a report may be in the topic or not.
    """
    reports, wrong = _call(brokers, "produce", topic, compression, data="".join(map(_line, records)).encode())
    return [_report(report) for report in reports if report.count(" ") == 3], wrong


class Transactions:
    """
    A transactional producer. What it commits goes into the journal; what is open when the block ends stays open until
    the broker's patience with it is over.
    """

    def __init__(self, brokers, topic, name, journal):
        tool = os.path.join(build_folder(), "tests", "tools", "kafka_records")
        self.topic, self.journal = topic, journal
        self.lines, self.sent, self.reports = 0, [], []
        self.child = subprocess.Popen([tool, brokers, "transact", topic, name], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.communicate()

    def _order(self, lines):
        """Returns the reports when it has been obeyed."""
        self.child.stdin.write("".join(lines) + "say\n")
        self.child.stdin.flush()
        self.lines += len(lines) + 1
        reports = []
        while (line := self.child.stdout.readline()) != "said\n":
            if not line:
                raise StackError(f"the transactional producer left with {self.child.wait()}")
            reports.append(_report(line))
        return reports

    def send(self, records):
        """Records of the open transaction, or of a new one. Returns when they are in the log."""
        before = self.lines - len(self.sent)
        self.sent += records
        self.reports += [(line - before, *rest) for line, *rest in self._order(list(map(_line, records)))]

    def commit(self):
        self._order(["commit\n"])
        self.journal.record(self.topic, self.sent, self.reports)
        self.sent, self.reports = [], []

    def abort(self):
        self._order(["abort\n"])
        self.sent, self.reports = [], []


def read(brokers, topic):
    """All Records of a topic that may be read, in order within each partition."""
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
