"""Records into and out of Kafka, through kcat."""

import json
import os
import random
import re
import stat
import subprocess

from .process import StackError, wait_until

# Between key and value, and between records: neither occurs in JSON text.
KEY_END, RECORD_END = b"\x1f", b"\x1e"


def kcat(brokers, *arguments, data=None):
    """Runs kcat. Returns its output as bytes."""
    done = subprocess.run(["kcat", "-b", brokers, *arguments], input=data, capture_output=True,
        stdin=subprocess.DEVNULL if data is None else None)
    if done.returncode:
        raise StackError(f"kcat {' '.join(arguments)}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def order_key(line):
    """The order id in a JSON text, as far as it can be made out; b"" when it cannot."""
    found = re.search(rb'"order_id"\s*:\s*"([^"\\]*)"', line)
    return found[1] if found else b""


def produce(brokers, topic, records, headers=None, partition=None, compression="none"):
    """
    Sends (key, value) pairs of bytes, in order; a value of None is a tombstone. They may not hold the two
    separators above. The headers go to all of them.
    """
    pieces = []
    tombstones = [value is None for _, value in records]
    if any(tombstones) and not all(tombstones) and any(value == b"" for _, value in records):
        raise StackError("kcat sends empty values as null or as empty, not some of each: use two calls")
    for key, value in records:
        key, value = key or b"", value or b""
        if {KEY_END[0], RECORD_END[0]} & set(key + value):
            raise StackError("a record holds kcat's separator")
        pieces.append(key + KEY_END + value + RECORD_END)
    arguments = ["-P", "-t", topic, "-K", r"\x1f", "-D", r"\x1e", "-z", compression, "-X", "acks=all"]
    if any(tombstones):
        arguments.append("-Z")
    if partition is not None:
        arguments += ["-p", str(partition)]
    for name, value in (headers or {}).items():
        arguments += ["-H", f"{name}={value}"]
    kcat(brokers, *arguments, data=b"".join(pieces))


def produce_ndjson(brokers, topic, lines, **options):
    """Sends JSON lines (dicts, text or bytes), keyed by their order id."""
    values = [encode(line) for line in lines]
    produce(brokers, topic, [(order_key(value), value) for value in values], **options)


def encode(line):
    if isinstance(line, bytes):
        return line
    text = line if isinstance(line, str) else json.dumps(line, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogateescape")


def count_events(path):
    """Of a file that the user named by EVENTS=: lines that hold something, as `produce` counts them."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise StackError(f"EVENTS={path}: is no file" + (", but a folder" if os.path.isdir(path) else ""))
        with open(path, "rb") as lines:
            count = sum(1 for line in lines if line.strip(b" \t\r\n"))
    except OSError as wrong:
        raise StackError(f"EVENTS={path}: {wrong.strerror}") from None
    if not count:
        raise StackError(f"EVENTS={path}: holds no event")
    return count


def shuffled(lines, seed, repeats=1):
    """The same lines, each `repeats` times, in an order that depends on the seed alone."""
    out = list(lines) * repeats
    random.Random(seed).shuffle(out)
    return out


def consume(brokers, topic, *extra):
    """All records of a topic: dicts with partition, offset, ts, key, value (bytes or None) and headers."""
    out = kcat(brokers, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-J", *extra)
    records = []
    for line in out.splitlines():
        # kcat passes bytes that are not UTF-8 through: the detour by surrogates gives them back as they were.
        record = json.loads(line.decode("utf-8", "surrogateescape"), strict=False)
        names = record.get("headers") or []
        records.append({
            "partition": record["partition"], "offset": record["offset"], "ts": record.get("ts"),
            "key": _bytes(record.get("key")), "value": _bytes(record.get("payload")),
            "headers": dict(zip(names[::2], names[1::2])),
        })
    return records


def _bytes(text):
    return None if text is None else text.encode("utf-8", "surrogateescape")


def partition_count(brokers, topic):
    listed = json.loads(kcat(brokers, "-L", "-J", "-t", topic))["topics"][0]
    return len(listed["partitions"])


def offsets(brokers, topic, at=-1):
    """
    {partition: offset} at the end of the log, or with at=-2 at its start. Asks for a while: leaders move, and a broker
    that has just come back does not know its partitions yet.
    """
    wanted = []
    for partition in range(partition_count(brokers, topic)):
        wanted += ["-t", f"{topic}:{partition}:{at}"]
    refused = [None]

    def ask():
        try:
            return kcat(brokers, "-Q", *wanted)
        except StackError as error:
            refused[0] = error
            return None

    answer = wait_until(ask, 20, lambda: str(refused[0]), every_s=0.2)
    found = re.findall(r"\[(\d+)\] offset (-?\d+)", answer.decode())
    return {int(partition): int(offset) for partition, offset in found}
