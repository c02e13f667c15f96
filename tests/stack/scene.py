"""A test's own corner of a shared stack: topics, group, database and Redis prefix that no other test knows."""

import json
import os

import checker
from checker import reading

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
            scene.check(worker)
    """

    def __init__(self, stack, partitions=4, deferred_partitions=2, migrate=True, postgres=None, **options):
        """`postgres`: the server of its database, when that is not the stack's."""
        self.stack = stack
        self.journal = checker.Journal()
        self.rulebook = checker.Rulebook()
        self.workers = []
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

    def move(self, postgres):
        """Its database is on another server from now on: a copy that took over."""
        self.postgres = postgres
        self.dsn = self.options["pg.dsn"] = postgres.dsn(postgres.database_of(self.dsn))

    def command(self, *arguments, **more):
        """Runs a command of the worker with this scene's options, over which options= goes."""
        return run_command(*arguments, options={**self.options, **more.pop("options", {})}, **more)

    def worker(self, *arguments, **options):
        """A worker that is not started yet. Options may be written batch_max=10 or **{"batch.max": 10}."""
        self.rulebook.worker_starts()
        self.workers.append(Worker(self.stack, {**self.options, **options}, arguments))
        return self.workers[-1]

    def apply_rules(self, rules):
        path = os.path.join(self.stack.folder, f"{self.name}-rules-{self.stack.number()}.json")
        with open(path, "w", encoding="utf-8") as out:
            json.dump(rules, out)
        done = self.command("rules", "apply", path, check=0)
        self.rulebook.apply(rules)
        return done

    def produce(self, lines, topic=None, headers=None, partition=-1, compression="none"):
        """Sends JSON lines (dicts, text or bytes), keyed by their order id; the headers go to all of them."""
        values = [traffic.encode(line) for line in lines]
        headers = [(name, value.encode()) for name, value in (headers or {}).items()]
        self.send([records.Record(value, traffic.order_key(value), headers, partition) for value in values], topic,
            compression)

    def send(self, items, topic=None, compression="none"):
        """Sends records.Record byte for byte. What the broker acknowledged is in the journal, also on an error."""
        topic = topic or self.topic
        reports, wrong = records.send(self.stack.brokers, topic, items, compression)
        self.journal.record(topic, items, reports)
        if wrong:
            raise StackError(wrong)

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

    def slow_down(self, seconds):
        """Each write of a batch takes that much longer, so that there is a middle to be met on a machine of any speed."""
        self.psql(f"""
            CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                PERFORM pg_sleep({seconds});
                RETURN NULL;
            END $$;
            CREATE TRIGGER dawdle BEFORE INSERT OR UPDATE ON orders FOR EACH STATEMENT EXECUTE FUNCTION dawdle()""")

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

    def check(self, *workers, limit_s=60, **known):
        """
        Waits until everything is settled and, where a worker runs or left well, committed; then the checker
        (tests/checker) compares journal and rules with ledger, dead letters, deferrals and offsets. Raises an
        AssertionError with the table when anything is found. `known`: members of checker.Snapshot that say what the
        case did, such as accepted_loss or history_lost.
        """
        late = None
        known.setdefault("commit_lags", not self.commits_follow())
        try:
            self.wait_settled(*workers, limit_s=limit_s)
            if not known["commit_lags"]:
                wait_until(self.all_committed, limit_s, lambda: f"Kafka's commits {self.committed()} of "
                    f"{self.progress(self.topic)}", every_s=0.1)
        except StackError as error:
            late = str(error)
        self.assert_clean(self.judge(**known), late)

    def check_ledger(self, **known):
        """The same without waiting, of a worker that is stopped. With unsettled=True it may have left work behind."""
        self.assert_clean(self.judge(**known))

    def worker_options(self):
        """Those of the last worker, else the scene's."""
        return self.workers[-1].options if self.workers else self.options

    def judge(self, dlq=None, **known):
        """Reads everything and returns the checker's findings."""
        options = self.worker_options()
        return checker.judge(reading.read_snapshot(self.journal.copy(), self.rulebook, self.topic, self.deferred,
            dlq or options.get("kafka.dlq_topic", self.dlq), self.group, self.stack.brokers, self.psql,
            refuse_unknown=options.get("event.unknown_members") == "refuse", **known))

    @staticmethod
    def assert_clean(findings, late=None):
        if late:
            findings.add("stuck", late)
        if not findings.clean():
            raise AssertionError(f"the checker found:\n{findings.table()}")

    def commits_follow(self):
        """Whether Kafka's commits come to equal progress: some worker runs, or the last ones left well."""
        return any(worker.alive() for worker in self.workers) or all(worker.process.exit_code == 0
            for worker in self.workers)

    def all_committed(self):
        for topic in (self.topic, self.deferred):
            committed = self.committed(topic)
            if any(committed.get(partition, 0) != offset for partition, offset in self.progress(topic).items()):
                return False
        return True

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
        done = self.command("audit", *(["--from-kafka"] if from_kafka else []), options=self.worker_options())
        return done.returncode, done.stdout + done.stderr
