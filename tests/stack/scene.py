"""A test's own corner of a shared stack: topics, group, database and Redis prefix that no other test knows."""

import json
import os

from . import records, traffic
from .process import StackError, wait_until
from .worker import Worker, run_command

# Everything at test speed. The session timeout is above PostgreSQL's limit for idle transactions, as it must be.
QUICK = {
    "commit.interval_ms": 100,
    "lag.interval_ms": 200,
    "rules.poll_ms": 200,
    "kafka.session.timeout.ms": 6000,
    "kafka.heartbeat.interval.ms": 500,
    "pg.idle_timeout_ms": 4000,
}


class Scene:
    """
        scene = Scene(shared(), partitions=3)
        scene.apply_rules({"rules": [...]})
        scene.produce([{...}, {...}])
        with scene.worker() as worker:
            scene.wait_settled(worker)
    """

    def __init__(self, stack, partitions=4, deferred_partitions=2, migrate=True, postgres=None, **options):
        """`postgres`: the server of its database, when that is not the stack's."""
        self.stack = stack
        self.postgres = postgres or stack.postgres
        self.name = f"t{stack.number()}"
        self.topic = f"{self.name}-events"
        self.deferred = f"{self.topic}.deferred"
        self.dlq = f"{self.topic}.dlq"
        self.group = f"{self.name}-group"
        stack.create_topics({self.topic: partitions, self.deferred: deferred_partitions, self.dlq: 1})
        self.dsn = self.postgres.dsn(self.postgres.new_database())
        self.options = {
            **QUICK,
            "kafka.brokers": stack.brokers,
            "kafka.topic": self.topic,
            "kafka.group": self.group,
            "pg.dsn": self.dsn,
            "redis.url": stack.redis_url if stack.redis else "",
            "redis.prefix": f"{self.name}:",
            **options,
        }
        if migrate:
            self.command("migrate", check=0)

    def command(self, *arguments, **more):
        """Runs a command of the worker with this scene's options, over which options= goes."""
        return run_command(*arguments, options={**self.options, **more.pop("options", {})}, **more)

    def worker(self, *arguments, **options):
        """A worker that is not started yet. Options may be written batch_max=10 or **{"batch.max": 10}."""
        return Worker(self.stack, {**self.options, **options}, arguments)

    def apply_rules(self, rules):
        path = os.path.join(self.stack.folder, f"{self.name}-rules-{self.stack.number()}.json")
        with open(path, "w", encoding="utf-8") as out:
            json.dump(rules, out)
        return self.command("rules", "apply", path, check=0)

    def produce(self, lines, topic=None, **options):
        traffic.produce_ndjson(self.stack.brokers, topic or self.topic, lines, **options)

    def send(self, items, topic=None):
        """Sends records.Record byte for byte."""
        records.send(self.stack.brokers, topic or self.topic, items)

    def read(self, topic=None):
        """All records.Record of a topic, of the main one unless told otherwise."""
        return records.read(self.stack.brokers, topic or self.topic)

    def committed(self, topic=None):
        """{partition: offset} as Kafka has it for the group."""
        found = records.committed(self.stack.brokers, self.group, topic or self.topic)
        return {partition: offset for partition, (offset, _) in found.items()}

    def marks(self, topic=None):
        """{partition: metadata of the group's commit, as text}."""
        found = records.committed(self.stack.brokers, self.group, topic or self.topic)
        return {partition: metadata.decode() for partition, (_, metadata) in found.items()}

    def dead_letters(self):
        return traffic.consume(self.stack.brokers, self.dlq)

    def psql(self, sql):
        return self.postgres.psql(sql, self.dsn)

    def epoch(self):
        """The history that the database is, as commits name it."""
        return self.psql("SELECT replace(epoch::text, '-', '') FROM history")[0][0]

    def progress(self, topic):
        """{partition: next offset} as PostgreSQL has it."""
        rows = self.psql("SELECT partition, next_offset FROM partition_progress "
            f"WHERE consumer_group = '{self.group}' AND topic = '{topic}'")
        return {int(partition): int(offset) for partition, offset in rows}

    def unsettled(self):
        """Offsets between the ends of both topics and the progress in PostgreSQL; deferred records count."""
        total = 0
        for topic in (self.topic, self.deferred):
            # In this order: a record may be settled by a copy behind it, deferred once more.
            progress = self.progress(topic)
            ends = traffic.offsets(self.stack.brokers, topic)
            total += sum(max(0, end - progress.get(partition, 0)) for partition, end in ends.items())
        return total

    def wait_settled(self, *workers, limit_s=60):
        """Waits until the worker's progress in PostgreSQL has reached the ends of the log, deferred copies included."""

        def settled():
            for worker in workers:
                if not worker.alive():
                    raise StackError(f"{worker.name} left with {worker.process.exit_code}\n{worker.log()}")
            return self.unsettled() == 0

        wait_until(settled, limit_s,
            lambda: f"{self.unsettled()} offsets unsettled\n" + "\n".join(worker.log() for worker in workers),
            every_s=0.1)

    def balances(self):
        """What an audit from outside would compare: the three views of balances and postings' sums."""
        return {
            "points": self.psql("SELECT customer_id, points FROM customer_points WHERE points <> 0 ORDER BY 1"),
            "credit": self.psql("SELECT partner_id, currency, credit_minor FROM partner_credit "
                "WHERE credit_minor <> 0 ORDER BY 1, 2"),
            "orders": self.psql("SELECT order_id, progress, outcome, points, order_credit_minor "
                "FROM order_state ORDER BY 1"),
        }

    def audit(self, from_kafka=True):
        """Exit code and output of `audit`."""
        done = self.command("audit", *(["--from-kafka"] if from_kafka else []))
        return done.returncode, done.stdout + done.stderr
