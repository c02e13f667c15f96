"""A topic's backlog through one worker or several: how fast, and who took how much CPU and memory for it."""

import re
import signal
import time

from stack import StackError, Worker, wait_until

from . import usage

LIMIT_S = 600
LOOK_S, LOOK_SELDOM_S = 0.02, 0.25
LEAST_S = 0.5  # of a measuring that begins in the middle: what was in flight then is read and decoded already
CONSUMED = re.compile(r"^delivery_worker_records_consumed_total(?:\{[^}]*\})? (\S+)$", re.M)
SETTLED = re.compile(r"^delivery_worker_records_settled_total\{[^}]*\} (\S+)$", re.M)


class TooFew(StackError):
    """The records were settled before there was anything to measure."""


def counts(workers):
    """(consumed, settled) over all workers. A look costs the machine some milliseconds of CPU, so few are taken."""
    consumed = settled = 0.0
    for worker in workers:
        if not worker.alive():
            raise StackError(f"{worker.name} left with {worker.process.exit_code}\n{worker.log()}")
        text = worker.get("/metrics", limit_s=30)[1]
        consumed += sum(float(value) for value in CONSUMED.findall(text))
        settled += sum(float(value) for value in SETTLED.findall(text))
    return consumed, settled


def _wait_first(workers, all_assigned, settled_first):
    """Until records come, with several workers until each has partitions. Returns (time, settled)."""

    def look():
        if all_assigned and not all(worker.metrics().value("assigned_partitions") for worker in workers):
            return None
        now = time.monotonic()
        consumed, settled = counts(workers)
        return (now, settled) if consumed and settled >= settled_first else None

    if settled_first:
        return wait_until(look, LIMIT_S, f"{settled_first:,.0f} records were not settled", every_s=LOOK_SELDOM_S)
    return wait_until(look, 120, "no record came, or a worker got no partition", every_s=LOOK_S)


def _wait_done(workers, first, total, limit_s):
    """
    Until all is settled, or for limit_s when that is said. Looks come closer together towards the end. Returns
    (time, settled).
    """
    begun, already = first
    longest_s = limit_s or LIMIT_S
    while True:
        now = time.monotonic()
        settled = counts(workers)[1]
        past_s = now - begun
        if settled >= total or (limit_s and past_s >= limit_s and settled > already):
            return now, settled
        if past_s >= longest_s:
            raise StackError(f"of {total:,} records {already:,.0f} were settled, and {past_s:.0f} s later "
                f"{settled:,.0f}\n{workers[0].log()}")
        rate = (settled - already) / max(past_s, 0.001)
        left_s = min((total - settled) / rate if rate else LOOK_SELDOM_S, longest_s - past_s)
        time.sleep(max(LOOK_S, min(LOOK_SELDOM_S, left_s / 2)))


def _ledger_figures(ground, dsn, outcomes, events, wal_bytes):
    figures = {"wal_bytes": wal_bytes / events}
    found = ground.stack.psql("SELECT sum(n_tup_upd), sum(n_tup_hot_upd) FROM pg_stat_user_tables", dsn)[0]
    if found[0] and int(found[0]):
        figures["hot_percent"] = 100 * int(found[1]) / int(found[0])
    # A batch writes an order once, however many of its events it holds; `rev` counts those writes. What was saved stood
    # beside one other event of its order, or beside several, and then fewer records are concerned than this says.
    writes = int(ground.stack.psql("SELECT coalesce(sum(rev), 0) FROM orders WHERE first_topic IS NOT NULL", dsn)[0][0])
    merged = sum(outcomes.get(name, 0) for name in ("credited", "recorded", "stale"))
    if merged and writes:
        figures["shared_percent"] = min(100.0, max(0.0, 200 * (merged - writes) / merged))
    return figures


def _outcomes(workers):
    """{outcome: records} of all workers."""
    sums = {}
    for worker in workers:
        for name, count in worker.metrics().by("records_settled_total", "outcome").items():
            sums[name] = sums.get(name, 0) + count
    return sums


def _shares(outcomes):
    total = max(1, sum(outcomes.values()))
    return {name: count / total for name, count in outcomes.items()}


def is_complete(figures):
    """Whether all was settled: only then the figures of the ledger are taken."""
    return "wal_bytes" in figures


def _leave(workers):
    begun = time.monotonic()
    for worker in workers:
        worker.process.send(signal.SIGTERM)
    codes = [worker.process.wait(60) for worker in workers]
    if any(codes):
        raise StackError(f"a worker left with {codes}\n{workers[0].log()}")
    return (time.monotonic() - begun) * 1000


def wal_position(ground):
    return int(ground.stack.psql("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")[0][0])


def run(ground, workload, topic, total, options=None, replicas=1, joined=False, limit_s=None, dsn=None,
        audit=False, probe=None, leave=True, warm=0.0):
    """
    Starts the workers on the topic and measures from the first record to the last, or for `limit_s`. CPU counts from
    the start of the processes, so everything a worker does is in it. With `joined`, all of that begins when each worker
    has partitions, and with `warm` when that share of the backlog is settled. `probe.begin` and `probe.end` are called
    with the first worker when records come and before it leaves. With leave=False workers are killed where they are, in
    the middle of their work: to settle what is in flight takes as long as the setting under test makes it. Returns the
    figures of one run.
    """
    own_ledger = dsn is None
    dsn = dsn or ground.new_ledger(workload)
    settings = {**ground.options(topic, f"run{ground.stack.number()}"), "pg.dsn": dsn, **dict(workload.options),
        **(options or {})}
    workers = [Worker(ground.stack, settings) for _ in range(replicas)]
    wal = wal_position(ground)
    meter = ground.meter()
    try:
        for worker in workers:
            worker.start()
        for i, worker in enumerate(workers):
            meter.processes[f"worker{i}"] = worker.process
        first = _wait_first(workers, joined, warm * total)
        base, earlier = 0, {}
        if joined or warm:  # while a group forms its first workers take the records alone
            earlier, wal = _outcomes(workers), wal_position(ground)
            meter = ground.meter(**{f"worker{i}": worker.process for i, worker in enumerate(workers)})
            first = time.monotonic(), counts(workers)[1]
            base = first[1]
        if total - first[1] < total / 10:
            raise TooFew(f"{first[1]:,.0f} of {total:,} records were settled before measuring began: a larger N=")
        if probe:
            probe.begin(workers[0])
        last = _wait_done(workers, first, total, limit_s)
        if base and last[0] - first[0] < LEAST_S:
            raise TooFew(f"{total - base:,.0f} of {total:,} records were settled in less than {LEAST_S} s: a larger N=")
        used = meter.read()
        if probe:
            probe.end(workers[0])
        figures = _figures(workers, used, first, last, base)
        outcomes = _outcomes(workers)
        shares = _shares({name: count - earlier.get(name, 0) for name, count in outcomes.items()})
        figures["repeats_percent"] = 100 * shares["duplicate"]
        figures["credited_per_s"] = shares["credited"] * figures["events_per_s"]
        if leave or last[1] >= total:
            figures["leave_ms"] = _leave(workers)
        if last[1] >= total:
            figures.update(_ledger_figures(ground, dsn, outcomes, max(1, last[1] - base), wal_position(ground) - wal))
        if audit:
            ground.audit(dsn)
        return figures
    finally:
        for worker in workers:
            worker.process.end()
        if own_ledger:
            ground.drop(dsn)


def _figures(workers, used, first, last, base):
    events = max(1, last[1] - base)
    seconds = max(last[0] - first[0], 0.001)
    worker_us = sum(value for name, value in used.items() if name.startswith("worker"))
    metrics = [worker.metrics() for worker in workers]
    batches = sum(m.value("batch_records_count") for m in metrics)
    return {
        "events_per_s": (last[1] - first[1]) / seconds,
        "worker_us": worker_us / events,
        "redis_us": used["redis"] / events,
        "kafka_us": used["kafka"] / events,
        "postgres_us": used["postgres"] / events,
        "outside_us": (worker_us + used["redis"] + used["kafka"]) / events,
        "peak_mb": max(usage.peak_bytes(worker.pid) for worker in workers) / 1e6,
        "others_cores": used["others_cores"],
        "batch_records": sum(m.value("batch_records_sum") for m in metrics) / max(1, batches),
    }
