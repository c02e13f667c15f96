"""W3: what repeats cost, caught by Redis and absorbed by PostgreSQL; and what Redis costs where there are none."""

import statistics

from .. import backlog, workload
from .streams import settings

# The broker does the same with Redis and without, and what its collector takes differs from run to run.
MACHINE = ("worker_us", "redis_us", "postgres_us")


def whole_us(run):
    """CPU of everyone but the broker, an event."""
    return sum(run[name] for name in MACHINE)


def measure(ground, results, size):
    count = size.events
    whole = {}
    for share, load in ((0, workload.W3_UNREPEATED), (50, workload.W3)):
        topic, total = ground.topic(load, count)
        for redis in ("on", "off"):
            options = {} if redis == "on" else {"redis.url": ""}
            runs = [backlog.run(ground, load, topic, total, options) for _ in range(size.runs)]
            whole[share, redis] = statistics.median(whole_us(run) for run in runs)
            repeats = total - _distinct(total, share)
            row = results.add("W3", f"{share} % repeats, Redis {redis}", settings(size, total, redis=redis), runs)
            if share and repeats < total / 10:
                results.note("W3: what a repeat costs is left out, there are too few of them; a larger N=")
            elif share:
                # What the run took beyond its first-time records, by how many repeats it had.
                fresh = (total - repeats) * whole[0, redis]
                row.figures["repeat_us"] = [(total * whole[share, redis] - fresh) / repeats]
        ground.forget(load, count)
    results.find("W3", "0 % repeats, Redis on").figures["redis_cost_us"] = [whole[0, "on"] - whole[0, "off"]]


def _distinct(total, share):
    """Of `total` records; the first 30,000 events had nothing to repeat."""
    return total if not share else (total + min(total, 30000)) // 2
