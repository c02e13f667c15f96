"""W5: a backlog while one partner is over its rate: what the others get, and how often the slow one's are copied."""

import time

from stack import StackError, Worker, wait_until

from .. import backlog, usage, workload
from .streams import settings

WRITTEN = ("credited", "recorded", "stale")  # outcomes of what the limiter let through and the ledger took


def measure(ground, results, size):
    load = workload.W5
    count = size.events // 2
    topic, total = ground.topic(load, count)
    runs = [_one(ground, load, topic, total, size.slow_s)]
    if "slow_per_s" not in runs[0]:
        results.note("W5: what the slow partner gets is left out, it has too few events; a larger N=")
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

        # The topic itself is read, settled and committed: what is left waits in the deferred one.
        wait_until(lambda: worker.metrics().value("consumer_committed_offset", topic=topic) >= total, 600,
            "the backlog was not settled", every_s=0.1)
        through_s = time.monotonic() - begun
        used = meter.read()
        figures = {
            "events_per_s": total / through_s,
            **_deferred(worker, total, after_s),
            **_copies(worker),
            **{f"{name}_us": used[name] / total for name in ("worker", "redis", "kafka", "postgres")},
            "peak_mb": usage.peak_bytes(worker.pid) / 1e6,
        }
        if worker.stop():
            raise StackError(f"the worker left uncleanly\n{worker.log()}")
    ground.drop(dsn)
    return figures


def _settled(worker):
    """(time, {outcome: records}); a scrape is consistent."""
    return time.monotonic(), worker.metrics().by("records_settled_total", "outcome")


def _copies(worker):
    """How often what was deferred was copied so far; most of it waits still."""
    copies = worker.metrics().by("deferred_copies_total", "kind")
    return {"copies_per_deferred": sum(copies.values()) / copies["first"]} if copies["first"] else {}


def _deferred(worker, total, seconds):
    """
    The topic is read to its end, so every record comes out of the deferred one: what is written are events of the slow
    partner, and what is deferred was deferred before. Returns {} when nothing waits any longer at the end.
    """
    begun, before = _settled(worker)
    time.sleep(seconds)
    ended, after = _settled(worker)
    if sum(count for outcome, count in after.items() if outcome != "deferred") >= total:
        return {}
    return {"slow_per_s": sum(after[name] - before[name] for name in WRITTEN) / (ended - begun),
        "recopies_per_s": (after["deferred"] - before["deferred"]) / (ended - begun)}
