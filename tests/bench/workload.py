"""The workloads: streams of events as `delivery-worker produce` makes them, and the settings they run with."""

from dataclasses import dataclass, field

# In the past of every record: an event may not be later than its record.
START = "2026-01-01T00:00:00Z"

# Two seeds have no order in common; another stream's is none that a bench of a neighbouring seed takes.
SEEDS_APART = 1000

RULES = {"rules": [{"id": "base", "kind": "per_amount", "points": 1, "per_minor": 100}]}

MARKET = ("--customers", "1000000", "--partners", "700")
LIFECYCLE = (*MARKET, "--steady", "--orders-alive", "20000", "--duplicates", "2", "--late", "1", "--bad", "0.1")


@dataclass(frozen=True)
class Workload:
    name: str
    text: str  # what the stream is
    flags: tuple = ()  # of `produce --generate`
    file: str = ""  # instead of generating
    rules: dict = field(default_factory=lambda: RULES, hash=False)
    options: tuple = ()  # of the worker, (key, value) pairs
    stream: int = 0  # of the same kind, with orders of its own

    def arguments(self, count, seed):
        """Of `produce`; without --stdout they fill a topic."""
        if self.file:
            return [self.file]
        return ["--generate", str(count), "--seed", str(seed + self.stream * SEEDS_APART), "--start", START,
            *self.flags]


W1 = Workload("W1", "lifecycle: 1,000,000 customers, 700 partners, Zipf; six to eight events an order, 20,000 orders "
    "alive; 2 % duplicates, 1 % late, 0.1 % bad", LIFECYCLE)
W2 = Workload("W2", "all delivered: every event is an order of its own and credits points and order credit",
    (*MARKET, "--delivered-only"))
# Repeats lie further apart than ten batches of each of two workers.
W3 = Workload("W3", "duplicate storm: lifecycle, half of the records repeat one of 30,000 events ago",
    (*MARKET, "--steady", "--orders-alive", "20000", "--duplicates", "50", "--repeat-after", "30000"))
W3_UNREPEATED = Workload("W3", "lifecycle without repeats", (*MARKET, "--steady", "--orders-alive", "20000"))
W4 = Workload("W4", "steady rate: lifecycle as W1, an open loop", LIFECYCLE)
SLOW_PARTNER = {"partner_id": "p1", "kinds": ["points", "order_credit"], "per_second": 200, "burst": 200}
W5 = Workload("W5", "backlog with one slow partner: lifecycle as W1; p1, a tenth of the events, is let 200 a second, "
    "the rest of its records waits 2 s and longer", LIFECYCLE, rules={**RULES, "partners": [SLOW_PARTNER]},
    options=(("rate.defer_ms", 2000),))
# Of the table's size: as W1, with as many orders alive as are said to be live there.
W1_WIDE = Workload("W1", "lifecycle as W1 with 100,000 orders alive",
    (*MARKET, "--steady", "--orders-alive", "100000", "--duplicates", "2", "--late", "1", "--bad", "0.1"))


def texts():
    """{name: what the stream is}."""
    return {load.name: load.text for load in (W1, W2, W3, W4, W5)}


def real(path):
    return Workload("file", f"the events of {path.rpartition('/')[2]}", file=path)
