"""
W4: the latency from a record's timestamp to its COMMIT, at a steady rate.

From the worker's own histogram, which counts every record whose transaction is committed, so neither a repeat that
Redis knows nor a bad record; its buckets have bounds at 2, 3, 8 and 12 ms, in between the estimate is linear. The
timestamps are the milliseconds in which the records were due. Rate and CPU are of all that was settled while records
came.
"""

import contextlib
import json
import subprocess
import time

from stack import StackError, Worker, wait_until
from stack.exposition import quantile

from .. import workload
from ..ground import PARTITIONS, tool
from .streams import settings

RATES = (1000, 5000, 10000)
WARM_S = 3
# Small requests are another path through the broker than filling a topic is, and its compiler takes a core for it at
# first.
WARM_UP_RATE, WARM_UP_S = 5000, 30
LATENCY = "record_latency_seconds"


def measure(ground, results, size):
    # Deleted when all is measured: a file system that tells the device what is deleted (mounted with `discard`) lets a
    # COMMIT wait for that, 20 ms and more.
    with contextlib.ExitStack() as left:
        _one(ground, WARM_UP_RATE, WARM_UP_S, left)
        for rate in RATES:
            runs = [_one(ground, rate, size.steady_s, left) for _ in range(size.steady_runs)]
            row = results.add("W4", f"{rate:,} events/s", settings(size, rate * (WARM_S + size.steady_s), redis="on"),
                runs)
            if row.median("late_p99_ms") > 1:
                results.note(f"W4 at {rate:,}/s: the generator fell behind its schedule, by "
                    f"{row.text('late_p99_ms')} ms or more for 1 % of the records; that is in the latency")


def _one(ground, rate, seconds, left):
    load = workload.W4
    count = rate * (WARM_S + seconds)
    lines = ground.lines(load, count)
    topic = ground.new_topic()
    left.callback(ground.stack.delete_topic, topic)
    dsn = ground.new_ledger(load)
    left.callback(ground.drop, dsn)
    options = {**ground.options(topic, f"steady{ground.stack.number()}"), "pg.dsn": dsn}
    with Worker(ground.stack, options) as worker, open(lines, "rb") as data:
        worker.wait_until(lambda m: m.value("assigned_partitions") == PARTITIONS + 2, 30)
        driver = subprocess.Popen([tool("steady_load"), ground.stack.brokers, topic, str(rate)], stdin=data,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            wait_until(lambda: worker.metrics().value("records_consumed_total") >= rate * WARM_S or driver.poll(), 120,
                "no records came", every_s=0.1)
            meter, begun, before = ground.meter(worker=worker.process), time.monotonic(), worker.metrics()
            # As long as records come at their rate: what stands in the log at the end would not be steady.
            out, complaint = driver.communicate(timeout=seconds * 10 + 60)
            used, passed_s, last = meter.read(), time.monotonic() - begun, worker.metrics()
        finally:
            driver.kill()
        if driver.returncode:
            raise StackError(f"steady_load: exit {driver.returncode}\n{complaint}")
        after = worker.wait_until(lambda m: m.value("records_settled_total") >= count, 60, "not all was settled")
        if worker.stop():
            raise StackError(f"the worker left uncleanly\n{worker.log()}")
    sent = json.loads(out)
    seen = difference(after.buckets(LATENCY), before.buckets(LATENCY))
    settled = max(1, last.value("records_settled_total") - before.value("records_settled_total"))
    batches = after.value("batch_records_count") - before.value("batch_records_count")
    return {
        "events_per_s": settled / passed_s,
        "p50_ms": quantile(seen, 0.5) * 1000,
        "p99_ms": quantile(seen, 0.99) * 1000,
        "late_p99_ms": sent["late_p99_ms"],
        "late_max_ms": sent["late_max_ms"],
        "batch_records": (after.value("batch_records_sum") - before.value("batch_records_sum")) / max(1, batches),
        **{f"{name}_us": used[name] / settled for name in ("worker", "redis", "kafka", "postgres")},
        "others_cores": used["others_cores"],
    }


def difference(after, before):
    """Cumulative buckets of what was observed in between."""
    counts = dict(before)
    return [(bound, count - counts.get(bound, 0)) for bound, count in after]
