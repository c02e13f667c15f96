"""
`make demo`: events through Kafka, the worker and Redis into the ledger, and an audit of what came out.

    KAFKA=apache       a real broker; the mock cluster otherwise
    EVENTS=FILE        NDJSON to send; generated events otherwise
    N=200000 SEED=1    how many are generated, and from which seed

Exit code 0 only when the audit is clean.
"""

import os
import time

from . import machine
from .kafka import ApacheKafka
from .keep import TOPICS
from .process import StackError
from .stack import Stack
from .traffic import count_events, offsets
from .worker import Worker, binary, run_command

LIMIT_S = 150
RATE_MIN_S = 0.5  # in less the times at which metrics are looked at are too coarse
TOPIC = "delivery-events"
DEFERRED = f"{TOPIC}.deferred"
RULES = os.path.join(os.path.dirname(__file__), "demo-rules.json")

# The mock cluster drops what is beyond 5 MiB of a partition; compressed, an event takes some 60 to 120 bytes.
MOCK_EVENTS_A_PARTITION = 35_000

# A reversal swaps the sides of what it takes back.
POSTED = """
SELECT unit, count(*),
       sum(CASE WHEN debit_account ~ '^(partner_points|clearing):' THEN amount ELSE -amount END)
FROM postings GROUP BY unit ORDER BY unit
"""


def say(text):
    print(f"-- {text}", flush=True)


def number(name, usual, least, most):
    text = os.environ.get(name) or f"{usual}"
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise StackError(f"{name}={text}: a whole number from {least} to {most} is wanted")
    return int(text)


def main():
    kind = os.environ.get("KAFKA") or "mock"
    if kind not in ("mock", "apache"):
        raise StackError(f"KAFKA={kind}: mock or apache is wanted")
    if not os.path.exists(binary()):
        raise StackError(f"{binary()} is not built (make)")
    events = os.environ.get("EVENTS")
    seed = number("SEED", 1, 0, 2**63 - 1)
    count = count_events(events) if events else number("N", 200_000, 1, 10**9)
    broker = "Apache Kafka" if kind == "apache" else "a mock of Kafka (librdkafka)"
    say(f"starting the servers: PostgreSQL, Redis, {broker}")
    with Stack(kafka=kind) as stack:
        return Demo(stack, count, seed, events).run()


class Course:
    """
    How far the worker is with `total` records of a topic, from its metrics. A record that is deferred settles as such,
    and its copy is consumed and settles again, as often as that takes: copies are work, and no records.
    """

    def __init__(self, total, partitions):
        """`partitions`: {topic: how many} of the topic and of that of the copies."""
        self.total = total
        self.partitions = partitions
        self.looked = None     # when it looked last
        self.begun = None      # the last time at which nothing had been consumed
        self.read_at = None    # when each record had settled or been deferred once
        self.done_at = None
        self.done = 0          # records that are over
        self.lags = {}         # by topic; None: not known

    def look(self, metrics, now):
        by_outcome = metrics.by("records_settled_total", "outcome")
        settled = sum(count for outcome, count in by_outcome.items() if outcome != "released")
        self.done = settled - by_outcome.get("deferred", 0)
        self.lags = {topic: self.known(metrics, "consumer_lag", topic) for topic in self.partitions}
        if self.begun is None and metrics.value("records_consumed_total"):
            self.begun = now if self.looked is None else self.looked
        # Of the copies that have settled those are known that are committed; the commit is a moment behind.
        copies = metrics.value("consumer_committed_offset", topic=DEFERRED)
        if self.read_at is None and settled - copies >= self.total:
            self.read_at = now
        if self.done_at is None and self.done >= self.total:
            self.done_at = now
        self.looked = now

    def known(self, metrics, name, topic):
        """The sum over all partitions of the topic, None while one of them is not known."""
        found = metrics.series(name, topic=topic)
        return sum(value for _, value in found) if len(found) == self.partitions[topic] else None

    def over(self):
        return self.done_at is not None and not any(lag is None or lag for lag in self.lags.values())

    def line(self):
        lag, copies = self.lags[TOPIC], self.lags[DEFERRED]
        return (f"{self.done:,.0f} of {self.total:,} records settled, " +
            ("lag not known yet" if lag is None else f"lag {lag:,.0f}") +
            (f", {copies:,.0f} deferred" if copies else ""))

    def read_s(self):
        """Seconds in which each record was read, and settled or deferred once."""
        return max(self.read_at - self.begun, 0.001)

    def wait_s(self):
        """Seconds from then on until the last deferred one had settled."""
        return self.done_at - self.read_at


class Demo:
    def __init__(self, stack, count, seed, events):
        self.stack = stack
        self.count = count
        self.seed = seed
        self.events = events
        self.partitions = dict(TOPICS)
        if not isinstance(stack.kafka, ApacheKafka):
            self.partitions[TOPIC] = max(TOPICS[TOPIC], -(-count // MOCK_EVENTS_A_PARTITION))
        self.options = {
            "kafka.brokers": stack.brokers,
            "kafka.producer.compression.codec": "lz4",
            "pg.dsn": stack.pg_dsn,
            "redis.url": stack.redis_url,
            "commit.interval_ms": 100,  # lag is what is not committed: it is to follow what is settled
            "lag.interval_ms": 200,
            "rate.defer_ms": 2000,
        }
        if not isinstance(stack.kafka, ApacheKafka):
            # Its fetches of nothing take their whole wait.
            self.options["kafka.consumer.fetch.wait.max.ms"] = 50

    def command(self, *arguments, check=0):
        return run_command(*arguments, options=self.options, check=check, limit_s=LIMIT_S)

    def run(self):
        stack = self.stack
        say(f"{stack.kafka.LABEL} at {stack.brokers}; PostgreSQL at {stack.pg_dsn}; Redis at {stack.redis_url}")
        say(f"topics {', '.join(TOPICS)} with {', '.join(map(str, self.partitions.values()))} partitions")
        stack.create_topics(self.partitions)
        say("delivery-worker migrate; delivery-worker rules apply")
        self.command("migrate")
        print(self.command("rules", "apply", RULES).stdout, end="")
        self.send()
        worker = Worker(stack, self.options)
        say("delivery-worker run")
        with worker:
            self.report(worker, *self.watch(worker))
            self.print_lag()
            if worker.stop() != 0:
                raise StackError(f"the worker left with {worker.process.exit_code}\n{worker.log()}")
        return self.audit()

    def send(self):
        if self.events:
            say(f"delivery-worker produce {self.events}")
            arguments = [os.path.abspath(self.events)]
        else:
            say(f"delivery-worker produce --generate {self.count} --seed {self.seed}: 2 % repeated, 2 % late, 1 % bad")
            arguments = ["--generate", str(self.count), "--seed", str(self.seed),
                "--duplicates", "2", "--late", "2", "--bad", "1"]
        done = self.command("produce", *arguments)
        print(done.stdout + done.stderr, end="")
        if any(offsets(self.stack.brokers, TOPIC, -2).values()):
            raise StackError("the mock cluster dropped records: fewer events, or KAFKA=apache")

    def watch(self, worker):
        """Waits for the end of the backlog. Returns the last metrics and the course."""
        course = Course(sum(offsets(self.stack.brokers, TOPIC).values()),
            {topic: self.partitions[topic] for topic in (TOPIC, DEFERRED)})
        shown = [time.monotonic()]

        def done(metrics):
            now = time.monotonic()
            course.look(metrics, now)
            if now - shown[0] > 1:
                shown[0] = now
                print(f"   {course.line()}", flush=True)
            return course.over() and not metrics.value("records_in_flight")

        return worker.wait_until(done, LIMIT_S, "the lag did not come down to 0"), course

    def report(self, worker, metrics, course):
        deferred = metrics.value("records_settled_total", outcome="deferred")
        print("\nrecords by outcome; a deferral's copy has an outcome of its own")
        for outcome, records in metrics.by("records_settled_total", "outcome").items():
            print(f"   {outcome:<16}{records:>14,.0f}")
        print("dead letters by code")
        for code, records in sorted(metrics.by("dead_letters_total", "code").items()):
            if records:
                print(f"   {code:<24}{records:>6,.0f}")
        print("posted, from PostgreSQL")
        for unit, rows, total in self.stack.psql(POSTED):
            print(f"   {unit:<6}{int(total):>18,} in {int(rows):,} postings")
        cpu_s = worker.cpu_seconds()
        print(f"speed, on {machine.hardware()}, with all servers and {self.stack.kafka.LABEL} beside the worker")
        rate = (f"{course.total / course.read_s():,.0f} records/s" if course.read_s() >= RATE_MIN_S
            else "too short for a rate")
        print(f"   {rate}: {course.total:,} in {course.read_s():.2f} s, from the first one read on")
        if deferred:
            print(f"   {deferred:,.0f} deferrals by a partner's rate, the last one over {course.wait_s():.1f} s later")
        print(f"   worker: {cpu_s:.2f} s of CPU, {cpu_s / course.total * 1e6:.1f} µs a record; "
            f"peak memory {worker.memory_peak_bytes() / 2**20:.0f} MiB")
        estimates = [(q, metrics.quantile("record_latency_seconds", q)) for q in (0.5, 0.95, 0.99)]
        if estimates[0][1] is not None:
            print("   record time to commit, backlog included: " +
                ", ".join(f"p{q * 100:g} {seconds:.3g} s" for q, seconds in estimates))

    def print_lag(self):
        print("\nthe group's lag, as Kafka has it")
        if isinstance(self.stack.kafka, ApacheKafka):
            print(self.stack.kafka.group_tool("--describe", "--group", "delivery-worker").strip())
        else:
            print(self.command("lag").stdout, end="")

    def audit(self):
        clean = True
        for arguments in (["audit"], ["audit", "--from-kafka"]):
            done = self.command(*arguments, check=None)
            clean = clean and done.returncode == 0
            print(f"\ndelivery-worker {' '.join(arguments)}: exit {done.returncode}")
            print((done.stdout + done.stderr).rstrip())
        print("\nthe audit is clean" if clean else "\nTHE AUDIT FOUND DIFFERENCES")
        return 0 if clean else 1
