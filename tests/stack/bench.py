"""
`make bench`: the figures that the README quotes, with real servers, each with what it was taken from.

Idle memory, start to first poll, and one backlog through the worker: events/s, CPU and peak memory. The events are
EVENTS=file.ndjson, or generated. Shared machines are noisy: CPU an event is steadier than events/s.
"""

import datetime
import json
import os
import platform
import sys
import time

from .demo import number
from .load import memory_bytes
from .process import StackError, wait_until
from .stack import ROOT, Stack
from .traffic import offsets
from .worker import Worker, run_command

RULES = '{"rules": [{"id": "base", "kind": "per_amount", "points": 1, "per_minor": 100}]}'
PARTITIONS = 6
LIMIT_S = 300
# The line is logged when the consumers' threads run, microseconds before their first poll.
STARTED = r"ts=(\S+)Z level=info msg=started "


def options_for(stack, group):
    return {
        "kafka.brokers": stack.brokers,
        "kafka.topic": "bench-events",
        "kafka.group": group,
        "pg.dsn": stack.postgres.dsn(stack.postgres.new_database()),
        "redis.url": stack.redis_url,
        "redis.prefix": f"{group}:",
        "lag.interval_ms": 200,
    }


def prepare(stack, options):
    rules = os.path.join(stack.folder, "bench-rules.json")
    with open(rules, "w", encoding="utf-8") as out:
        out.write(RULES)
    for arguments in (("migrate",), ("rules", "apply", rules)):
        run_command(*arguments, options=options, check=0)


def send(options, events, count, seed):
    if events:
        arguments, workload = [os.path.abspath(events)], os.path.basename(events)
    else:
        arguments = ["--generate", str(count), "--seed", str(seed), "--duplicates", "2", "--late", "1"]
        workload = f"generated, seed {seed}: lifecycles, 2 % repeated, 1 % late"
    run_command("produce", *arguments, options={**options, "kafka.producer.compression.codec": "lz4"}, check=0,
        limit_s=LIMIT_S)
    return workload


def idle(stack):
    """A worker with nothing to do, looked at once its partitions are all started."""
    options = options_for(stack, "idle")
    options["kafka.topic"] = "bench-idle"
    prepare(stack, options)
    starts = []
    for _ in range(3):
        begun = datetime.datetime.now(datetime.timezone.utc)
        with Worker(stack, options) as worker:
            worker.wait_until(lambda m: m.value("assigned_partitions") == PARTITIONS + 2 and m.has("consumer_lag"), 30)
            polled = datetime.datetime.fromisoformat(worker.wait_logged(STARTED)[1] + "+00:00")
            starts.append((polled - begun).total_seconds() * 1000)
            resident = memory_bytes(worker)
            worker.stop()
    return {"idle_resident_mib": resident / 2**20, "start_to_first_poll_ms": sorted(starts)[1]}


def backlog(stack, group, total, **more):
    """The whole topic, from the first record taken to the last one settled."""
    options = {**options_for(stack, group), **more}
    prepare(stack, options)
    state = {"first": None, "last": None}
    with Worker(stack, options) as worker:

        def done(metrics):
            now = time.monotonic()
            if state["first"] is None and metrics.value("records_consumed_total"):
                state["first"] = now
            settled = metrics.value("records_settled_total")
            if settled >= total and state["last"] is None:
                state["last"] = now
            return settled >= total and not metrics.value("records_in_flight")

        wait_until(lambda: done(worker.metrics()), LIMIT_S, "the backlog was not settled", every_s=0.01)
        result = {
            "events": total,
            "events_per_s": total / (state["last"] - state["first"]),
            "cpu_us_per_event": worker.cpu_seconds() / total * 1e6,
            "peak_resident_mib": worker.memory_peak_bytes() / 2**20,
        }
        if worker.stop() != 0:
            raise StackError(f"the worker left uncleanly\n{worker.log()}")
    audit = run_command("audit", options=options)
    if audit.returncode != 0:
        raise StackError(f"the ledger does not add up\n{audit.stdout}{audit.stderr}")
    return result


def main():
    events = os.environ.get("EVENTS", "")
    count = number(os.environ.get("N") or "300000", "N")
    seed = number(os.environ.get("SEED") or "1", "SEED")
    with Stack(kafka="apache") as stack:
        topics = {"bench-events": PARTITIONS, "bench-idle": PARTITIONS}
        stack.create_topics({**topics, **{f"{name}.deferred": 2 for name in topics}, **{f"{name}.dlq": 1 for name in topics}})
        options = options_for(stack, "send")
        workload = send(options, events, count, seed)
        total = sum(offsets(stack.brokers, "bench-events").values())
        figures = {
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
            "servers": f"{stack.kafka.LABEL}, PostgreSQL {stack.psql('SHOW server_version')[0][0]} "
                f"(synchronous_commit {stack.psql('SHOW synchronous_commit')[0][0]}, fsync "
                f"{stack.psql('SHOW fsync')[0][0]}), Redis, all on this machine",
            "workload": workload,
            "settings": "defaults: 1 consumer, 2 workers, batch.max 1000",
            **idle(stack),
            **backlog(stack, "first", total),
        }
        second = backlog(stack, "second", total)
        figures["events_per_s_second_run"] = second["events_per_s"]
        figures["cpu_us_per_event_second_run"] = second["cpu_us_per_event"]
    for name, value in figures.items():
        print(f"{name:<28} {value:,.1f}" if isinstance(value, float) else f"{name:<28} {value}")
    path = os.path.join(os.environ.get("DW_TEST_BUILD", os.path.join(ROOT, "build")), "bench.json")
    with open(path, "w", encoding="utf-8") as out:
        json.dump(figures, out, indent=1)
    print(f"written to {path}", file=sys.stderr)
    return 0
