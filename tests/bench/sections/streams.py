"""W1 and W2 end to end, and beside them what the parts could do at the most with the same stream."""

from .. import backlog, workload
from ..ground import PARTITIONS, default, run_tool


def settings(size, events, **more):
    return {"seed": size.seed, "events": events, "partitions": PARTITIONS, "batch": default("batch.max"),
        "connections": default("workers"), **more}


def end_to_end(ground, results, size, load, count):
    topic, total = ground.topic(load, count)
    runs = [backlog.run(ground, load, topic, total, audit=i == 0) for i in range(size.runs)]
    runs[0]["fill_per_s"] = ground.fill_per_s[topic]
    results.add(load.name, "end to end", settings(size, total, redis="on"), runs)


def ledger_ceiling(ground, results, size, load, count):
    """The same statements, batches and connections from memory."""
    lines = ground.lines(load, count)
    usual = default("batch.max")
    for batch in sorted({500, usual, 2000}) if load is not workload.W2 or size.full else (usual,):
        runs = []
        for _ in range(size.runs if batch == usual else 1):
            dsn = ground.new_ledger(load)
            wal, meter = backlog.wal_position(ground), ground.meter()
            done = run_tool("ledger_load", dsn, default("workers"), batch, lines=lines)
            used = meter.read()
            runs.append({
                "events_per_s": done["events"] / done["seconds"],
                "credited_per_s": done["credited"] / done["seconds"],
                "driver_us": done["cpu_us"] / done["events"],
                "postgres_us": used["postgres"] / done["events"],
                "wal_bytes": (backlog.wal_position(ground) - wal) / done["events"],
            })
            ground.drop(dsn)
        results.add(load.name, f"ceiling: the ledger write alone, batch {batch:,}",
            settings(size, done["events"], batch=batch, redis="–", partitions="–"), runs)


def part_ceilings(ground, results, size, load, count):
    """Consumer, decoder, Redis without PostgreSQL: one thread and the client library's, all on one core."""
    topic, _ = ground.topic(load, count)
    for mode, what in (("consume", "consume only"), ("decode", "consume and decode"),
            ("redis", "consume, decode and Redis")):
        runs = []
        for _ in range(size.runs):
            ground.stack.flush_redis()
            meter = ground.meter()
            done = run_tool("consume_load", ground.stack.brokers, topic, mode,
                *([ground.stack.redis_url] if mode == "redis" else []), one_core=True)
            used = meter.read()
            runs.append({
                "events_per_s": done["events"] / done["seconds"],
                "driver_us": done["cpu_us"] / done["events"],
                "redis_us": used["redis"] / done["events"] if mode == "redis" else None,
                "kafka_us": used["kafka"] / done["events"],
                "repeats_percent": 100 * done["repeats"] / done["events"] if mode == "redis" else None,
            })
        results.add(load.name, f"ceiling: {what}, one core",
            settings(size, done["events"], connections="–", batch=1000 if mode == "redis" else "–",
                redis="on" if mode == "redis" else "–"), runs)


def compare(results, load):
    """How near the whole comes to the ledger write alone."""
    alone = f"ceiling: the ledger write alone, batch {default('batch.max'):,}"
    ceiling = results.median(load.name, alone, "events_per_s")
    whole = results.find(load.name, "end to end")
    if whole and ceiling:
        whole.figures["of_ceiling_percent"] = [100 * value / ceiling for value in whole.figures["events_per_s"]]


def lifecycle(ground, results, size):
    for step in (end_to_end, ledger_ceiling, part_ceilings):
        step(ground, results, size, workload.W1, size.events)
    compare(results, workload.W1)


def delivered(ground, results, size):
    count = size.events // 2
    for step in (end_to_end, ledger_ceiling):
        step(ground, results, size, workload.W2, count)
    compare(results, workload.W2)


def real(ground, results, size):
    load = size.load
    for step in (end_to_end, ledger_ceiling, part_ceilings):
        step(ground, results, size, load, 0)
    compare(results, load)
