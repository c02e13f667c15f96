"""W3: what repeats cost, caught by Redis and absorbed by PostgreSQL; and what Redis costs where there are none."""

from .. import backlog, workload
from .streams import settings

# The broker does the same with Redis and without, and what its collector takes differs from run to run.
MACHINE = ("worker_us", "redis_us", "postgres_us")
LOADS = {0: workload.W3_UNREPEATED, 50: workload.W3}  # by percent of repeats
REDIS = {"on": {}, "off": {"redis.url": ""}}


def whole_us(run):
    """CPU of everyone but the broker, an event."""
    return sum(run[name] for name in MACHINE)


def measure(ground, results, size):
    """PostgreSQL's CPU drifts by more than what is looked for: the four take turns, and costs are of one turn each."""
    topics = {share: ground.topic(load, size.events) for share, load in LOADS.items()}
    runs = {(share, redis): [] for share in LOADS for redis in REDIS}
    for _ in range(size.storm_runs):
        for share, redis in runs:
            topic, total = topics[share]
            runs[share, redis].append(backlog.run(ground, LOADS[share], topic, total, REDIS[redis]))
    add_redis_cost(runs)
    _, total = topics[50]
    repeats = total - _distinct(total)
    if repeats < total / 10:
        results.note("W3: what a repeat costs is left out, there are too few of them; a larger N=")
    else:
        add_repeat_cost(runs, total, repeats)
    for (share, redis), measured in runs.items():
        results.add("W3", f"{share} % repeats, Redis {redis}", settings(size, topics[share][1], redis=redis), measured)
    for load in LOADS.values():
        ground.forget(load, size.events)


def add_redis_cost(runs):
    """`runs`: {(percent of repeats, Redis): [figures of a turn]}, here and below."""
    for on, off in zip(runs[0, "on"], runs[0, "off"]):
        on["redis_cost_us"] = whole_us(on) - whole_us(off)


def add_repeat_cost(runs, total, repeats):
    """What a run took beyond its first-time records, by how many repeats it had."""
    for redis in REDIS:
        for without, run in zip(runs[0, redis], runs[50, redis]):
            run["repeat_us"] = (total * whole_us(run) - (total - repeats) * whole_us(without)) / repeats


def _distinct(total):
    """Of `total` records, half of which repeat; the first 30,000 events had nothing to repeat."""
    return (total + min(total, 30000)) // 2
