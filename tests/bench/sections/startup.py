"""From start to work, at rest, and out of the middle of work."""

import datetime
import time

from stack import StackError, Worker, wait_until

from .. import backlog, usage, workload
from ..ground import PARTITIONS
from .streams import settings

# The line is logged when the consumers' threads run, microseconds before their first poll.
STARTED = r"ts=(\S+)Z level=info msg=started "
JOINED = r"ts=(\S+)Z level=info msg=partitions topic=\S+ assigned="  # the group's answer; the start is asked after it
RUNS = 3
ALL = PARTITIONS + 4  # with those of the deferred topic


def _stamp(match):
    return datetime.datetime.fromisoformat(match[1] + "+00:00").timestamp()


def measure(ground, results, size):
    load = size.load or workload.W1
    results.add("start", "at rest", settings(size, 0, redis="on"), [_idle(ground, load) for _ in range(RUNS)])
    topic, total = ground.topic(load, size.events)
    results.add("start", "into a backlog", settings(size, total, redis="on"),
        [_into(ground, load, topic) for _ in range(RUNS)])
    runs = [backlog.run(ground, load, topic, total, limit_s=size.leave_after_s) for _ in range(RUNS)]
    if any(backlog.is_complete(run) for run in runs):
        results.note("start: leaving under load is left out, all was settled before; a larger N=")
        return
    results.add("start", "leaving under load", settings(size, total, redis="on"),
        [{"leave_ms": run["leave_ms"], "events_per_s": run["events_per_s"]} for run in runs])


def _idle(ground, load):
    topic = ground.new_topic()
    dsn = ground.new_ledger(load)
    options = {**ground.options(topic, f"idle{ground.stack.number()}"), "pg.dsn": dsn, "lag.interval_ms": 200}
    begun = time.time()
    with Worker(ground.stack, options) as worker:
        worker.wait_until(lambda m: m.value("assigned_partitions") == ALL and m.has("consumer_lag"), 30)
        figures = {"first_poll_ms": (_stamp(worker.wait_logged(STARTED)) - begun) * 1000,
            "idle_mb": usage.resident_bytes(worker.pid) / 1e6}
        if worker.stop():
            raise StackError(f"the worker left uncleanly\n{worker.log()}")
    ground.drop(dsn)
    return figures


def _into(ground, load, topic):
    """The first credit is seen in the worker's metrics, which are looked at every 10 ms."""
    dsn = ground.new_ledger(load)
    options = {**ground.options(topic, f"start{ground.stack.number()}"), "pg.dsn": dsn}
    begun = time.time()
    with Worker(ground.stack, options) as worker:
        credited = wait_until(
            lambda: time.time() if worker.metrics().value("records_settled_total", outcome="credited") else None, 60,
            lambda: f"no credit\n{worker.log()}", every_s=0.01)
        joined = _stamp(worker.wait_logged(JOINED))
        figures = {"first_poll_ms": (_stamp(worker.wait_logged(STARTED)) - begun) * 1000,
            "first_credit_ms": (credited - begun) * 1000, "join_to_credit_ms": (credited - joined) * 1000}
        if worker.stop():
            raise StackError(f"the worker left uncleanly\n{worker.log()}")
    ground.drop(dsn)
    return figures
