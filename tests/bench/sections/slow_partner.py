"""W5: a backlog while one partner is over its rate: what the others get, and how often the slow one's are copied."""

import subprocess
import time

from stack import StackError, Worker, build_folder, wait_until
from stack.traffic import offsets

from .. import backlog, usage, workload
from .streams import settings

SLOW = workload.SLOW_PARTNER["partner_id"]


def measure(ground, results, size):
    load = workload.W5
    count = size.events // 2
    topic, total = ground.topic(load, count)
    runs = [_one(ground, load, topic, total, size.slow_s)]
    results.add("W5", "one slow partner", settings(size, total, redis="on"), runs)
    ground.forget(load, count)


def _one(ground, load, topic, total, after_s):
    dsn = ground.new_ledger(load)
    group = f"slow{ground.stack.number()}"
    options = {**ground.options(topic, group), "pg.dsn": dsn, **dict(load.options),
        "commit.interval_ms": 100, "lag.interval_ms": 200}
    meter = ground.meter()
    with Worker(ground.stack, options) as worker:
        meter.processes["worker"] = worker.process
        begun = wait_until(lambda: time.monotonic() if backlog.counts([worker])[0] else None, 60, "no record came",
            every_s=0.02)

        # The topic itself is read, settled and committed: what is left goes round the deferred one.
        wait_until(lambda: worker.metrics().value("consumer_committed_offset", topic=topic) >= total, 600,
            "the backlog was not settled", every_s=0.1)
        through_s = time.monotonic() - begun
        used = meter.read()
        time.sleep(after_s)
        copies, passed_s = _copies(ground, topic), time.monotonic() - begun
        recopies = _recopies(ground, topic)
        figures = {
            "events_per_s": total / through_s,
            "slow_per_s": _let_through(ground, dsn) / passed_s,
            "copies_per_s": copies / passed_s,
            "recopies_per_s": recopies / passed_s,
            **{f"{name}_us": used[name] / total for name in ("worker", "redis", "kafka", "postgres")},
            "peak_mb": usage.peak_bytes(worker.pid) / 1e6,
        }
        if worker.stop():
            raise StackError(f"the worker left uncleanly\n{worker.log()}")
    ground.drop(dsn)
    return figures


def _copies(ground, topic):
    return sum(offsets(ground.stack.brokers, f"{topic}.deferred").values())


def _recopies(ground, topic):
    """Copies in the deferred topic beyond the first of each record."""
    listed = subprocess.run([f"{build_folder()}/tests/tools/kafka_records", ground.stack.brokers, "consume",
        f"{topic}.deferred"], capture_output=True, text=True, check=True).stdout
    names = ("x" + b"dw_source_partition".hex(), "x" + b"dw_source_offset".hex())
    seen, copies = set(), 0
    for line in listed.splitlines():
        words = line.split()[5:]
        headers = dict(zip(words[::2], words[1::2]))
        seen.add(tuple(headers[name] for name in names))
        copies += 1
    return copies - len(seen)


def _let_through(ground, dsn):
    """Events of the slow partner that reached the ledger, by the writes of its orders."""
    return int(ground.stack.psql(f"SELECT coalesce(sum(rev), 0) FROM orders WHERE partner_id = '{SLOW}'", dsn)[0][0])
