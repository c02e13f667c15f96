"""
The crash matrix: a worker is killed, frozen or told to leave at each of its fail points (worker/failpoint.h), in the
middle of traffic that passes all of them; another worker takes over; then all must be as if nothing had happened.

A case has a name ("kill after_poll") and a seed, which give its events and how often its point is passed before.
"""

import json
import os
import random
import subprocess

from stack import Record, Scene, StackError, build_folder, wait_until
from stack.events import BASE_RULES, delivered, event
from stack.process import Process
from stack.traffic import encode

PARTITIONS, DEFERRED = 3, 4
ALL = PARTITIONS + DEFERRED

# The shortest session that the stack's broker grants is 1 s; a transaction left idle ends before it.
SHORT = {
    "kafka.session.timeout.ms": 1500,
    "kafka.heartbeat.interval.ms": 300,
    "pg.idle_timeout_ms": 1000,
    "commit.interval_ms": 20,
    "rate.defer_ms": 100,
    "shutdown.timeout": 10,
    "workers": 2,
    "batch.max": 6,
}

# Some of the partner's records pass at once, the others are deferred, some of them again.
RULES = {**BASE_RULES, "partners": [{"partner_id": "slow", "per_second": 30, "burst": 2}]}

# How many passes are let go, at the most, by what one pass is: a wave holds more, so that the point is in its midst.
PASSES_MAX = {"record": 60, "batch": 8, "commit": 3, "dead letter": 5, "deferral": 6, "assignment": 0}

# What a fail point does, and how a test says it.
ACTIONS = {"kill": "killed", "stop": "frozen", "term": "told_to_leave"}

# Cases that run at the same time: what they wait for is mostly sessions that run out, not processors.
AT_A_TIME = 4

REFUSED = (None, b"", b"{", b"[]", b'{"order_id":"x"}', b'{"order_id":"x","status":"gone","timestamp":"2026-03-01T10:00:00Z"}')


def program():
    """The worker with fail points."""
    return os.path.join(build_folder(), "failpoints", "delivery-worker")


def points():
    """The rows of the table, as that worker tells them."""
    try:
        told = subprocess.run([program(), "version", "--json"], capture_output=True, text=True, check=True)
    except OSError as missing:
        raise StackError(f"{missing}: make FAILPOINTS=1 binary") from None
    return json.loads(told.stdout)["fail_points"]


class Traffic:
    """Waves of records: orders from creation to outcomes of all kinds, repeats, refused records, conflicts."""

    def __init__(self, seed, orders):
        self.random = random.Random(seed)
        self.orders = orders
        self.waves = 0

    def wave(self):
        self.waves += 1
        lanes = [self._order(number) for number in range(self.orders)]
        lanes.append([Record(value, b"x") for value in REFUSED])
        lanes += [[self._single(number)] for number in range(3 * self.orders)]
        records = []
        while lanes:
            lane = self.random.choice(lanes)
            records.append(lane.pop(0))
            if not lane:
                lanes.remove(lane)
        return records

    def _single(self, number):
        """An order of one record: lost, it is missing, where others' facts may cover up for it."""
        return record_of(delivered(f"w{self.waves}-single-{number}", self.random.randrange(100, 99999),
            f"c{self.random.randrange(5)}", f"p{self.random.randrange(3)}"))

    def _order(self, number):
        """The records of one order, in order; what contradicts comes behind what it contradicts."""
        order_id = f"w{self.waves}-{number}"
        who = {"customer_id": f"c{self.random.randrange(5)}", "partner_id": "slow" if number % 6 == 0 else
            f"p{self.random.randrange(3)}"}
        amount = {"amount_minor": self.random.randrange(100, 99999), "currency": "BRL"}
        minutes = iter(range(0, 60, 2))

        def at(status, **members):
            return event(order_id, status, f"2026-03-01T10:{next(minutes):02}:00Z", **members)

        facts = [at("created", **who, **amount), at("confirmed"), at("assigned", driver_id=f"d{number}"), at("picked_up")]
        facts.append(at("delivered", **who, **amount))
        kind = number % 6
        if kind == 1:
            facts.append(at("delivered", **who, **amount, refunded_total_minor=amount["amount_minor"] // 3))
        elif kind == 2:
            facts.append(at("cancelled", **who))
        elif kind == 3:
            facts += [at("returned"), at("delivered", **who, **amount)]
        elif kind == 4:
            facts.append(at("failed"))
        elif kind == 5:
            facts.append(at("in_transit", amount_minor=amount["amount_minor"] + 1000, currency="BRL"))
        for fact in self.random.sample(facts, 2):
            facts.insert(self.random.randrange(facts.index(fact) + 1, len(facts) + 1), fact)
        if kind == 5:
            facts.append(at("confirmed", customer_id="another"))
        return [record_of(fact) for fact in facts]


def record_of(fact):
    return Record(encode(fact), fact["order_id"].encode())


def is_assigned(metrics):
    """More assignments have come than were revoked or lost."""
    kinds = metrics.by("rebalances_total", "kind")
    return kinds["assigned"] > kinds["revoked"] + kinds["lost"]


class Case:
    def __init__(self, point, action, seed, orders=12):
        self.point = point
        self.action = action
        self.seed = seed
        self.name = f"{action} {point['name']}"
        self.verb = ACTIONS[action]
        chance = random.Random(f"{self.name} {seed}")
        self.passes = chance.randint(0, PASSES_MAX[point["each"]])
        # At once, or when everyone else has gone as far as they can get without this thread.
        self.dwell_ms = chance.choice((0, 250))
        self.traffic = Traffic(chance.random(), orders)
        self.scene = self.victim = self.successor = None

    def __str__(self):
        return f"{self.name}, seed {self.seed}: after {self.passes} passes and {self.dwell_ms} ms"

    def run(self, stack):
        """Raises what went wrong."""
        self.scene = Scene(stack, partitions=PARTITIONS, deferred_partitions=DEFERRED, **SHORT)
        self.scene.apply_rules(RULES)
        epoch = self.scene.epoch()
        arming = os.path.join(stack.folder, f"{self.scene.name}-arm")
        self.victim = self.scene.worker(**{
            "test.failpoint": f"{self.point['name']}:{self.passes}:{self.dwell_ms}:{self.action}",
            "test.failpoint_arm": arming})
        self.victim.program = program()
        self.successor = self.scene.worker()
        try:
            self.settle_some()
            with open(arming, "w", encoding="ascii"):
                self.reach()
            {"kill": self.killed, "stop": self.frozen, "term": self.left}[self.action]()
            self.verdict()
            if self.scene.epoch() != epoch:
                raise AssertionError("the crash was taken for a loss of the database's history")
        except Exception as wrong:
            logs = "".join(f"--- {worker.name}\n{worker.log(60)}" for worker in (self.victim, self.successor))
            raise type(wrong)(f"{self}\n{wrong}\n{logs}") from wrong
        finally:
            self.victim.process.end()
            self.successor.process.end()

    # Up to the point

    def settle_some(self):
        """Half a wave and more without a fault, so that marks, progress and commits are there when it comes."""
        records = self.traffic.wave()
        self.scene.send(records)
        self.victim.start()
        self.victim.wait_until(lambda m: settled(m) >= len(records) / 2, 60, "half of a wave settled")
        wait_until(lambda: sum(self.scene.progress(self.scene.topic).values()) > 0, 20, "progress")

    def reach(self):
        """Waves until the victim is at its point; a rebalance, where it is one of those."""
        if self.point["each"] == "assignment":
            self.scene.send(self.traffic.wave())
            self.successor.start()
        for _ in range(20):
            self.scene.send(self.traffic.wave())
            try:
                self.victim.wait_logged(f'msg="fail point" point={self.point["name"]} ', 1)
            except StackError:
                continue
            # There is work left for whoever comes.
            self.scene.send(self.traffic.wave())
            return
        raise StackError("the point was not reached")

    # What happens there

    def killed(self):
        code = self.victim.process.wait(20)
        if code != -9:
            raise AssertionError(f"the victim left with {code}")
        self.take_over()

    def left(self):
        code = self.victim.process.wait(40)
        if code not in (0, 69):
            raise AssertionError(f"the victim left with {code}")
        self.take_over()

    def take_over(self):
        if not self.successor.alive():
            self.successor.start()
        self.successor.wait_until(lambda m: m.value("assigned_partitions") == ALL, 60, "all partitions")
        self.settle(self.successor)

    def settle(self, *workers):
        for worker in workers:
            # Costs little to ask, and seldom leaves much to wait for.
            worker.wait_until(lambda m: m.is_zero("consumer_lag"), 60, "lag 0")
        self.scene.wait_settled(*workers)

    def frozen(self):
        wait_until(lambda: state_of(self.victim.process) == "T", 20, "the victim stands still")
        self.take_over()
        ledger, offsets = self.ledger(), self.offsets()
        woken = self.victim.log_size()
        self.victim.thaw()
        # It notices: what it had is lost to the group, or gone when it had drained; then it is given some again.
        self.victim.wait_logged(r'msg="partitions lost to the group"|msg=partitions topic=\S+ gone=', 60, woken)
        # The line for that may be suppressed, as one too many of its message in a second.
        self.victim.wait_until(is_assigned, 60, "another assignment")
        self.victim.wait_until(lambda m: 0 < m.value("assigned_partitions") < ALL, 60, "a share of the partitions")
        self.successor.wait_until(lambda m: 0 < m.value("assigned_partitions") < ALL, 60, "a share of the partitions")
        self.settle(self.victim, self.successor)
        if self.ledger() != ledger:
            raise AssertionError("the zombie changed the ledger")
        for name, now in self.offsets().items():
            if any(offset < offsets[name].get(place, 0) for place, offset in now.items()):
                raise AssertionError(f"{name} went back: {offsets[name]}, now {now}")
        # It works again.
        self.scene.send(self.traffic.wave())
        self.settle(self.victim, self.successor)
        if self.victim.stop() != 0:
            raise AssertionError(f"the zombie left with {self.victim.process.exit_code}")

    # What is to be compared

    def ledger(self):
        return self.scene.psql("""
            SELECT * FROM postings ORDER BY order_id, kind, seq;
            SELECT * FROM order_state ORDER BY order_id;
            SELECT * FROM account_balances ORDER BY account, unit""")

    def offsets(self):
        """{what: {(topic, partition): offset}}"""
        ways = {"progress": self.scene.progress, "commits": self.scene.committed}
        return {what: {(topic, partition): offset for topic in (self.scene.topic, self.scene.deferred)
            for partition, offset in read(topic).items()} for what, read in ways.items()}

    def verdict(self):
        if self.successor.stop() != 0:
            raise AssertionError(f"the successor left with {self.successor.process.exit_code}")
        # It left well, so commits equal progress, however the victim ended.
        self.scene.check(commit_lags=False)


def settled(metrics):
    return metrics.value("records_settled_total")


def state_of(process: Process):
    with open(f"/proc/{process.pid}/stat", encoding="latin-1") as stat:
        return stat.read().rpartition(")")[2].split()[0]


def cases(seed, **more):
    return [Case(point, action, seed, **more) for action in ACTIONS for point in points()]
