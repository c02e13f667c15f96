"""
`make demo`: events through Kafka, the worker and Redis into the ledger, and an audit of what came out.

    KAFKA=apache       a real broker; the mock cluster otherwise
    EVENTS=FILE        NDJSON to send; generated events otherwise
    N=200000 SEED=1    how many are generated, and from which seed

Exit code 0 only when the audit is clean.
"""

import os
import time

from .kafka import ApacheKafka
from .process import StackError
from .stack import Stack
from .traffic import offsets
from .worker import Worker, binary, run_command

LIMIT_S = 150
TOPIC = "delivery-events"
TOPICS = (TOPIC, f"{TOPIC}.deferred", f"{TOPIC}.dlq")
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


def number(text, name):
    if not text.isdigit() or not int(text):
        raise StackError(f"{name}={text}: a whole number above 0 is wanted")
    return int(text)


def main():
    kind = os.environ.get("KAFKA") or "mock"
    if kind not in ("mock", "apache"):
        raise StackError(f"KAFKA={kind}: mock or apache is wanted")
    if not os.path.exists(binary()):
        raise StackError(f"{binary()} is not built (make)")
    events = os.environ.get("EVENTS")
    count = number(os.environ.get("N") or "200000", "N")
    if events:
        with open(events, "rb") as lines:
            count = sum(chunk.count(b"\n") for chunk in iter(lambda: lines.read(1 << 20), b""))
    broker = "Apache Kafka" if kind == "apache" else "a mock of Kafka (librdkafka)"
    say(f"starting the servers: PostgreSQL, Redis, {broker}")
    with Stack(kafka=kind) as stack:
        return Demo(stack, count, events).run()


class Demo:
    def __init__(self, stack, count, events):
        self.stack = stack
        self.count = count
        self.events = events
        self.partitions = 6
        if not isinstance(stack.kafka, ApacheKafka):
            self.partitions = max(self.partitions, -(-count // MOCK_EVENTS_A_PARTITION))
        self.options = {
            "kafka.brokers": stack.brokers,
            "kafka.producer.compression.codec": "lz4",
            "pg.dsn": stack.pg_dsn,
            "redis.url": stack.redis_url,
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
        say(f"topics {', '.join(TOPICS)} with {self.partitions}, 2, 1 partitions")
        stack.create_topics(dict(zip(TOPICS, (self.partitions, 2, 1))))
        say("delivery-worker migrate; delivery-worker rules apply")
        self.command("migrate")
        print(self.command("rules", "apply", RULES).stdout, end="")
        self.send()
        worker = Worker(stack, self.options)
        say("delivery-worker run")
        with worker:
            metrics, active_s = self.watch(worker)
            self.report(worker, metrics, active_s)
            self.print_lag()
            if worker.stop() != 0:
                raise StackError(f"the worker left with {worker.process.exit_code}\n{worker.log()}")
        return self.audit()

    def send(self):
        if self.events:
            say(f"delivery-worker produce {self.events}")
            arguments = [os.path.abspath(self.events)]
        else:
            seed = number(os.environ.get("SEED") or "1", "SEED")
            say(f"delivery-worker produce --generate {self.count} --seed {seed}: 2 % repeated, 2 % late, 1 % bad")
            arguments = ["--generate", str(self.count), "--seed", str(seed),
                "--duplicates", "2", "--late", "2", "--bad", "1"]
        done = self.command("produce", *arguments)
        print(done.stdout + done.stderr, end="")
        if any(offsets(self.stack.brokers, TOPIC, -2).values()):
            raise StackError("the mock cluster dropped records: fewer events, or KAFKA=apache")

    def watch(self, worker):
        """Waits for the end of the backlog. Returns the last metrics and the seconds from first record to last."""
        total = sum(offsets(self.stack.brokers, TOPIC).values())
        state = {"first": None, "last": None, "settled": 0, "shown": time.monotonic()}

        def done(metrics):
            now = time.monotonic()
            settled = metrics.value("records_settled_total")
            if state["first"] is None and metrics.value("records_consumed_total"):
                state["first"] = now
            if settled != state["settled"]:
                state["last"], state["settled"] = now, settled
            if now - state["shown"] > 1:
                state["shown"] = now
                print(f"   {settled:,.0f} of {total:,} settled, lag {metrics.value('consumer_lag'):,.0f}", flush=True)
            # Deferred copies are consumed and settled too, so there may be more in the end.
            return (settled >= total and not metrics.value("records_in_flight") and
                metrics.has("consumer_lag") and not metrics.value("consumer_lag"))

        metrics = worker.wait_until(done, LIMIT_S, "the lag did not come down to 0")
        return metrics, max(state["last"] - (state["first"] or state["last"]), 0.05)

    def report(self, worker, metrics, active_s):
        settled = metrics.value("records_settled_total")
        print("\nrecords by outcome")
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
        print("speed")
        print(f"   {settled / active_s:,.0f} records/s over {active_s:.1f} s of work")
        print(f"   worker: {cpu_s:.2f} s of CPU, {cpu_s / settled * 1e6:.1f} µs a record; "
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
