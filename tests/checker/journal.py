"""What producers sent, and what they were told of it: the truth that the checker starts from."""

import dataclasses
import json
import threading


@dataclasses.dataclass(slots=True)
class Entry:
    """One record. Without partition and offset it was sent and not acknowledged: the topic may hold it or not."""

    topic: str
    partition: int | None
    offset: int | None
    timestamp_ms: int | None
    key: bytes | None
    value: bytes | None
    headers: list  # of (name, bytes or None), in order

    def place(self):
        return self.topic, self.partition, self.offset

    def content(self):
        return self.key, self.value, tuple(self.headers)


class Journal:
    """Thread-safe. `acknowledged` and `unknown` are lists of Entry, in the order of the reports."""

    def __init__(self):
        self._lock = threading.Lock()
        self.acknowledged = []
        self.unknown = []

    def __len__(self):
        return len(self.acknowledged)

    def record(self, topic, sent, reports):
        """`sent`: records with key, value, headers; `reports`: (index in sent, partition, offset, timestamp_ms)."""
        missing = dict(enumerate(sent))
        known = []
        for index, partition, offset, timestamp_ms in reports:
            one = missing.pop(index)
            known.append(Entry(topic, partition, offset, timestamp_ms, one.key, one.value, one.headers))
        with self._lock:
            self.acknowledged += known
            self.unknown += [Entry(topic, None, None, None, one.key, one.value, one.headers)
                for one in missing.values()]

    def adopt(self, topic, records):
        """Records read from the topic, that were produced by another way than the scene's."""
        with self._lock:
            have = {entry.place() for entry in self.acknowledged}
            self.acknowledged += [Entry(topic, one.partition, one.offset, one.timestamp_ms, one.key, one.value,
                one.headers) for one in records if (topic, one.partition, one.offset) not in have]

    def copy(self):
        """As it is now, for a check beside which others send."""
        other = Journal()
        with self._lock:
            other.acknowledged, other.unknown = list(self.acknowledged), list(self.unknown)
        return other

    def save(self, path):
        with open(path, "w", encoding="ascii") as out:
            for entry in self.acknowledged + self.unknown:
                out.write(json.dumps({"topic": entry.topic, "partition": entry.partition, "offset": entry.offset,
                    "timestamp_ms": entry.timestamp_ms, "key": _hex(entry.key), "value": _hex(entry.value),
                    "headers": [[name, _hex(value)] for name, value in entry.headers]}) + "\n")

    @classmethod
    def load(cls, path):
        journal = cls()
        with open(path, encoding="ascii") as lines:
            for line in lines:
                row = json.loads(line)
                headers = [(name, _bytes(value)) for name, value in row["headers"]]
                entry = Entry(row["topic"], row["partition"], row["offset"], row["timestamp_ms"], _bytes(row["key"]),
                    _bytes(row["value"]), headers)
                (journal.unknown if entry.offset is None else journal.acknowledged).append(entry)
        return journal


def _hex(data):
    return None if data is None else data.hex()


def _bytes(text):
    return None if text is None else bytes.fromhex(text)
