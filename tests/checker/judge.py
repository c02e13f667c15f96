"""
The judgement: a snapshot of ledger, topics and offsets against the journal and the rules. Pure: tests plant defects in
a snapshot and see them found.

A record *must* be in the ledger when progress is beyond it and no copy of it waits in the deferred topic. One that
need not be there but may (`optional`): at or beyond progress, deferred still, dead-lettered as database_rejected,
accepted as lost by an operator.
"""

import collections
import dataclasses
import hashlib
import re

from . import event as events
from . import order as orders
from .findings import Findings
from .journal import Journal
from .rules import Rulebook

SOURCE_HEADERS = ["dw_source_topic", "dw_source_partition", "dw_source_offset", "dw_source_timestamp_ms"]
DEFERRAL_HEADERS = ["dw_not_before_ms", "dw_slot_ms", "dw_limit"] + SOURCE_HEADERS
LETTER_HEADERS = SOURCE_HEADERS + ["dw_error_class", "dw_error_code", "dw_error_field", "dw_error_message",
    "dw_attempts", "dw_worker"]
LIMIT = re.compile("0:0|[1-9][0-9]*:[1-9][0-9]*", re.ASCII)  # rate:generation
WITHOUT_VALUE = ["dw_value_bytes", "dw_value_sha256"]

OrderRow = collections.namedtuple("OrderRow", "order_id partner_id customer_id driver_id progress outcome "
    "outcome_at_us amount_minor currency refunded_total_minor points order_credit_minor")
Posting = collections.namedtuple("Posting", "order_id kind seq unit amount debit_account credit_account rule_id "
    "rule_version source_topic source_partition source_offset")


@dataclasses.dataclass
class Snapshot:
    """Plain data; records have key, value, headers, partition, offset, timestamp_ms."""

    journal: Journal
    rules: Rulebook
    topic: str
    deferred: str
    orders: list = dataclasses.field(default_factory=list)  # of OrderRow
    postings: list = dataclasses.field(default_factory=list)  # of Posting
    customer_points: dict = dataclasses.field(default_factory=dict)  # {customer_id: points}
    partner_credit: dict = dataclasses.field(default_factory=dict)  # {(partner_id, currency): minor}
    balances: dict = dataclasses.field(default_factory=dict)  # {(account, unit): (debits, credits)}
    progress: dict = dataclasses.field(default_factory=dict)  # {(topic, partition): next offset}
    committed: dict = dataclasses.field(default_factory=dict)  # the same of Kafka's group
    log: dict = dataclasses.field(default_factory=dict)  # {(topic, partition): (first offset, end)}
    main: list | None = None  # records of the topic; None: every offset of it is in the journal
    deferrals: list = dataclasses.field(default_factory=list)  # records of the deferred topic
    letters: list = dataclasses.field(default_factory=list)  # and of the dead letters
    refuse_unknown: bool = False
    now_ms: int = 0
    # What the case knows of its own faults.
    unsettled: bool = False  # records beyond progress are no finding: the worker was stopped in the middle
    commit_lags: bool = True  # Kafka's commit may be behind progress: a worker was killed
    history_lost: bool = False  # the database went back: a conflict may have been decided anew, the other way
    accepted_loss: list = dataclasses.field(default_factory=list)  # (topic, partition, from, to), `to` exclusive
    later_version: set = dataclasses.field(default_factory=set)  # orders whose rows held a code that is not known here


@dataclasses.dataclass(slots=True)
class Source:
    """A record of the journal, or found in the topic, with what it decodes to."""

    place: tuple
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: list
    event: events.Event | None
    faults: set
    optional: bool = False
    codes: set = dataclasses.field(default_factory=set)  # of its dead letters

    def __str__(self):
        return _place(self.place)

    def content(self):
        return self.key, self.value, tuple(self.headers)


def judge(snapshot):
    """Returns Findings."""
    return _Judge(snapshot).run()


class _Judge:
    def __init__(self, snapshot):
        self.s = snapshot
        self.f = Findings()
        self.sources = {}  # place -> Source
        self.decoded = {}  # value -> Event, of records without headers
        self.by_order = collections.defaultdict(list)  # order id -> [Source], valid ones
        self.rows = {}

    def run(self):
        self.take_journal()
        self.take_topic()
        self.take_deferrals()
        self.mark_optional()
        self.check_letters()
        for source in self.sources.values():
            if source.event:
                self.by_order[source.event.order_id].append(source)
        self.check_orders()
        self.check_accounts()
        self.check_offsets()
        self.f.looked_at("records", len(self.sources))
        self.f.looked_at("orders", len(self.rows))
        self.f.looked_at("postings", len(self.s.postings))
        self.f.looked_at("dead letters", len(self.s.letters))
        self.f.looked_at("deferrals", len(self.s.deferrals))
        return self.f

    # records

    def add_source(self, place, timestamp_ms, record):
        event, faults = None if record.headers else self.decoded.get(record.value), set()
        # The same value again, unless it lies in the future of this record alone.
        if not event or event.at_us > timestamp_ms * 1000:
            event, faults = events.decode(record.value, record.headers, timestamp_ms, self.s.refuse_unknown)
            if event and not record.headers:
                self.decoded[record.value] = event
        self.sources[place] = Source(place, timestamp_ms, record.key, record.value, list(record.headers), event, faults)

    def take_journal(self):
        for entry in self.s.journal.acknowledged:
            if entry.topic == self.s.topic:
                self.add_source(entry.place(), entry.timestamp_ms, entry)

    def take_topic(self):
        """What lies in the topic beside the journal must have been sent at least: unacknowledged, or tried again."""
        if self.s.main is None:
            return
        there = {(self.s.topic, record.partition, record.offset): record for record in self.s.main}
        sent = {entry.content() for entry in self.s.journal.acknowledged + self.s.journal.unknown}
        for place, record in there.items():
            content = record.key, record.value, tuple(record.headers)
            if place not in self.sources:
                if content not in sent:
                    self.f.add("phantom", f"{_place(place)}: nobody sent this record (Journal.adopt takes it)")
                self.add_source(place, record.timestamp_ms, record)
            elif content != self.sources[place].content():
                self.f.add("lost", f"{_place(place)}: the log holds another record than was acknowledged")
        for place in self.sources.keys() - there.keys():
            if place[2] >= self.s.log.get(place[:2], (0, 0))[0]:
                self.f.add("lost", f"{_place(place)}: acknowledged, and the log does not hold it")

    def take_deferrals(self):
        """Foreign records of the deferred topic are sources, the worker's own name theirs."""
        foreign = {entry.place() for entry in self.s.journal.acknowledged if entry.topic == self.s.deferred}
        copies = []
        for record in self.s.deferrals:
            place = (self.s.deferred, record.partition, record.offset)
            named = _named_source(record.headers)
            if place not in foreign:
                copies.append((place, record))
            elif not named:
                self.add_source(place, record.timestamp_ms, record)
            elif named[:3] not in self.sources:
                self.add_source(named[:3], record.timestamp_ms if named[3] is None else named[3], record)
        self.waiting = set()  # places of sources of which a copy is not settled
        for place, record in copies:
            named = _named_source(record.headers)
            source = self.sources.get(named[:3]) if named else None
            if not source:
                self.f.add("phantom", f"deferral {_place(place)} names {named and _place(named)}, which nobody sent")
                continue
            self.check_copy("phantom", f"deferral {_place(place)} of {source}", record, source, DEFERRAL_HEADERS)
            if not source.event or (source.event.partner_id is None and
                    source.event.order_id not in self.s.later_version):
                self.f.add("phantom", f"deferral {_place(place)} of {source}, which no limit is for")
            # All of a slot, or none of it.
            slot_ms, limit = _number(record.headers, "dw_slot_ms"), _text(record.headers, "dw_limit") or ""
            if slot_ms is None or slot_ms < 0 or not LIMIT.fullmatch(limit) or (slot_ms == 0) != (limit == "0:0"):
                self.f.add("phantom", f"deferral {_place(place)} of {source} has the slot {slot_ms} of {limit!r}")
            if place[2] >= self.s.progress.get(place[:2], 0):
                self.waiting.add(source.place)
                due_ms = _number(record.headers, "dw_not_before_ms")
                if not self.s.unsettled and (due_ms is None or due_ms <= self.s.now_ms):
                    self.f.add("stuck", f"deferral {_place(place)} of {source} was due at {due_ms}")

    def check_copy(self, category, name, record, source, own):
        """Key, value, headers as they were, our own behind them."""
        names = [header for header, _ in record.headers]
        if own is LETTER_HEADERS and names[-len(WITHOUT_VALUE):] == WITHOUT_VALUE:
            own = own + WITHOUT_VALUE
            wanted = {"dw_value_bytes": str(len(source.value or b"")),
                "dw_value_sha256": hashlib.sha256(source.value or b"").hexdigest()}
            for header, text in wanted.items():
                if _text(record.headers, header) != text:
                    self.f.add(category, f"{name}: {header} is {_text(record.headers, header)}, not {text}")
            if record.value is not None:
                self.f.add(category, f"{name}: a value, and what stands in for it")
        elif record.value != source.value:
            self.f.add(category, f"{name}: another value")
        if record.key != source.key:
            self.f.add(category, f"{name}: key {record.key}, not {source.key}")
        if names[-len(own):] != own or list(record.headers[:-len(own)]) != source.headers:
            self.f.add(category, f"{name}: headers {names} of {[header for header, _ in source.headers]}")
        timestamp = _number(record.headers, "dw_source_timestamp_ms")
        if timestamp != (source.timestamp_ms if source.timestamp_ms >= 0 else -1):
            self.f.add(category, f"{name}: dw_source_timestamp_ms {timestamp}, not {source.timestamp_ms}")

    def settled(self, place):
        return place[2] < self.s.progress.get(place[:2], 0) and place not in self.waiting

    def accepted(self, place):
        return any(place[:2] == (topic, partition) and first <= place[2] < end
            for topic, partition, first, end in self.s.accepted_loss)

    def mark_optional(self):
        for place, source in self.sources.items():
            source.optional = not self.settled(place) or self.accepted(place)

    # dead letters

    def check_letters(self):
        for letter in self.s.letters:
            named = _named_source(letter.headers)
            source = self.sources.get(named[:3]) if named else None
            at = f"letter {letter.partition}@{letter.offset}"
            if not source:
                self.f.add("phantom", f"{at} names {named and _place(named)}, which nobody sent")
                continue
            name = f"{at} of {source}"
            self.check_copy("dead letters", name, letter, source, LETTER_HEADERS)
            code = _text(letter.headers, "dw_error_code")
            source.codes.add(code)
            self.check_code(name, letter, source, code)
        for source in self.sources.values():
            if source.faults and not source.codes and not source.optional:
                self.f.add("dead letters", f"{source} has none: {', '.join(sorted(source.faults))}")
            if "database_rejected" in source.codes:
                source.optional = True

    def check_code(self, name, letter, source, code):
        allowed = source.faults or {"order_conflict", "database_rejected"}
        if code not in allowed:
            self.f.add("dead letters", f"{name}: code {code}, not {' or '.join(sorted(allowed))}")
        if _text(letter.headers, "dw_error_class") != events.CLASS_OF.get(code):
            self.f.add("dead letters", f"{name}: class {_text(letter.headers, 'dw_error_class')} of code {code}")
        for header in ("dw_error_message", "dw_worker"):
            if not _text(letter.headers, header):
                self.f.add("dead letters", f"{name}: no {header}")
        if (_number(letter.headers, "dw_attempts") or 0) < 1:
            self.f.add("dead letters", f"{name}: dw_attempts is {_text(letter.headers, 'dw_attempts')}")

    # orders

    def check_orders(self):
        self.rows = {row.order_id: row for row in self.s.orders}
        self.postings = collections.defaultdict(list)
        for posting in self.s.postings:
            self.postings[posting.order_id].append(posting)
        for order_id in sorted(self.rows.keys() | self.by_order.keys() | self.postings.keys()):
            row, sources = self.rows.get(order_id), self.by_order.get(order_id, [])
            if not sources:
                self.f.add("phantom", f"order {order_id}: no record that was sent names it")
            elif not row:
                required = [source for source in sources if not source.optional]
                if required:
                    self.f.add("lost", f"order {order_id} is missing; {_list(required)} name it")
                if self.postings[order_id]:
                    self.f.add("phantom", f"order {order_id} has postings and is missing")
            else:
                self.check_order(row, sources)

    def check_order(self, row, sources):
        fixed = {member: getattr(row, member) for member in orders.FIXED}
        agreeing = [source for source in sources if not orders.conflicts(source.event, fixed)]
        if not self.check_fixed(row, fixed, sources, agreeing):
            return
        for source in sources:
            self.check_conflict(row, source, orders.conflicts(source.event, fixed))
        required = [source.event for source in agreeing if not source.optional]
        optional = [source.event for source in agreeing if source.optional]
        known = {"outcome": (row.outcome, row.outcome_at_us) if row.outcome else None,
            "amount_minor": row.amount_minor, "refunded_total_minor": row.refunded_total_minor}
        # Right facts may have come from optional records too. What follows from wrong ones is not reported again.
        right = self.check_facts(row, required, optional)
        self.check_postings(row, [known] if right else [orders.facts(required), known], fixed, agreeing)

    def check_fixed(self, row, fixed, sources, agreeing):
        """Customer, partner, currency. Returns whether the rest can be judged."""
        for member, value in fixed.items():
            carried = [source for source in agreeing if getattr(source.event, member) is not None]
            if value is not None and not carried:
                self.f.add("wrong amount", f"order {row.order_id}: {member} {value} is of no record that was applied")
                return False
            if value is None and (missing := [source for source in carried if not source.optional]):
                self.f.add("lost", f"order {row.order_id}: no {member}, which {_list(missing)} carry")
                return False
        if len({source.place[:2] for source in sources}) == 1 and not self.s.history_lost and \
                not any(source.optional or source.place in self.deferred_once() for source in sources):
            inorder = sorted(sources, key=lambda source: source.place[2])
            wanted = orders.first_fixed([source.event for source in inorder])
            for member in orders.FIXED:
                if fixed[member] != wanted[member]:
                    self.f.add("wrong amount", f"order {row.order_id}: {member} is {fixed[member]}; the first record "
                        f"that carries it says {wanted[member]}")
                    return False
        return True

    def deferred_once(self):
        if not hasattr(self, "_deferred_once"):
            named = [_named_source(record.headers) for record in self.s.deferrals]
            self._deferred_once = {one[:3] for one in named if one}
        return self._deferred_once

    def check_conflict(self, row, source, members):
        conflict = "order_conflict" in source.codes
        if members and not conflict and not source.optional:
            self.f.add("dead letters", f"{source} has none: order_conflict, order {row.order_id} has "
                f"{', '.join(f'{member} {getattr(row, member)}' for member in members)}")
        if conflict and not members and not self.s.history_lost:
            self.f.add("dead letters", f"{source} is dead-lettered as order_conflict and agrees with order "
                f"{row.order_id}")

    def check_facts(self, row, required, optional):
        must, may = orders.chains(required), orders.chains(optional)
        right = True
        for name in must:
            have = getattr(row, name)
            if name == "outcome":
                have = (row.outcome, row.outcome_at_us) if row.outcome else None
            category = orders.judge_fact(have, must[name], may[name])
            if category:
                right = False
                self.f.add(category, f"order {row.order_id}: {name} is {have}, not {orders.top(must[name])}")
        return right

    def check_postings(self, row, possible_facts, fixed, agreeing):
        mine = {"points": [], "order_credit": []}
        places = {source.place for source in agreeing}
        for posting in sorted(self.postings[row.order_id], key=lambda posting: posting.seq):
            mine[posting.kind].append(posting)
            self.check_posting(posting, fixed, places)
        self.check_rules(row, fixed, agreeing, mine["points"])
        possible = [pair for facts in possible_facts
            for pair in self.possible_targets(facts, fixed, mine["points"])]
        for kind, posted_total, index in (("points", row.points, 0), ("order_credit", row.order_credit_minor, 1)):
            have = sum(_signed(posting) for posting in mine[kind])
            if [posting.seq for posting in mine[kind]] != list(range(1, len(mine[kind]) + 1)):
                self.f.add("unbalanced", f"order {row.order_id}: seq of {kind} "
                    f"{[posting.seq for posting in mine[kind]]}")
            if have != posted_total:
                self.f.add("unbalanced", f"order {row.order_id}: {kind} {posted_total}, its postings come to {have}")
            wanted = sorted({one[index] for one in possible})
            if have not in wanted:
                self.f.add(_amount_category(have, wanted[0], mine[kind]), f"order {row.order_id}: {kind} {have}, not "
                    f"{' or '.join(map(str, wanted))}")

    def check_rules(self, row, fixed, agreeing, point_postings):
        """Points name a rule that was in force at one of the order's deliveries, or reverse what no rule followed."""
        times = {source.event.at_us for source in agreeing if source.event.rank == events.RANKS["delivered"]}
        in_force = {terms.name for at_us in times
            for terms in self.s.rules.possible_terms(fixed["partner_id"], fixed["currency"], at_us)}
        for posting in point_postings:
            name = None if posting.rule_id is None else (posting.rule_id, posting.rule_version)
            if name not in in_force or (name is None and _signed(posting) > 0):
                self.f.add("wrong amount", f"order {row.order_id}: posting points {posting.seq} by {name}, which was "
                    "not in force")

    def possible_targets(self, facts, fixed, point_postings):
        """The pairs of targets under the terms that the order may have got; its last posting tells some of them."""
        outcome = facts["outcome"]
        if not outcome or outcome[0] != "delivered" or fixed["partner_id"] is None or facts["amount_minor"] is None:
            return [(0, 0)]
        terms = self.s.rules.possible_terms(fixed["partner_id"], fixed["currency"], outcome[1])
        named = [(posting.rule_id, posting.rule_version) for posting in point_postings]
        if sum(_signed(posting) for posting in point_postings) > 0:
            # None of them: it was delivered anew under terms that come to the same, so nothing was posted.
            terms = [one for one in terms if one.name == named[-1]] or terms
        return [orders.targets(facts, fixed, one) for one in terms]

    def check_posting(self, posting, fixed, places):
        name = f"order {posting.order_id}: posting {posting.kind} {posting.seq}"
        source = posting.source_topic, posting.source_partition, posting.source_offset
        if source not in places:
            known = self.sources.get(source)
            what = "which nobody sent" if not known else "which is not of this order, or was not applied"
            self.f.add("phantom", f"{name} names {_place(source)}, {what}")
        if posting.kind == "points":
            sides = f"partner_points:{fixed['partner_id']}", f"customer_points:{fixed['customer_id']}"
            unit = "PTS"
        else:
            sides = f"clearing:{fixed['currency']}", f"partner_payable:{fixed['partner_id']}"
            unit = fixed["currency"]
            if posting.rule_id is not None or posting.rule_version is not None:
                self.f.add("wrong amount", f"{name}: an order credit has no rule")
        accounts = posting.debit_account, posting.credit_account
        if accounts not in (sides, sides[::-1]) or posting.unit != unit or posting.amount <= 0:
            self.f.add("wrong amount", f"{name}: {posting.amount} {posting.unit} from {accounts[0]} to {accounts[1]}")

    # accounts

    def check_accounts(self):
        """The views against the postings, each by itself."""
        wanted = collections.defaultdict(lambda: [0, 0])
        for posting in self.s.postings:
            wanted[(posting.debit_account, posting.unit)][0] += posting.amount
            wanted[(posting.credit_account, posting.unit)][1] += posting.amount
        unknown = self.find_unknown(wanted.keys() | self.s.balances.keys())
        have = {key: sides for key, sides in self.s.balances.items() if key in wanted or key not in unknown}
        self.compare("account", have, {key: tuple(sides) for key, sides in wanted.items()})
        points, credit = {}, {}
        for (account, unit), (debits, credits) in wanted.items():
            kind, _, name = account.partition(":")
            if kind == "customer_points":
                points[name] = credits - debits
            elif kind == "partner_payable":
                credit[(name, unit)] = credits - debits
        self.compare("customer", self.s.customer_points, points)
        self.compare("partner", self.s.partner_credit, credit)
        sums = collections.defaultdict(lambda: [0, 0])
        for (_, unit), (debits, credits) in self.s.balances.items():
            sums[unit][0] += debits
            sums[unit][1] += credits
        for unit, (debits, credits) in sums.items():
            if debits != credits:
                self.f.add("unbalanced", f"unit {unit}: debits {debits}, credits {credits}")

    def find_unknown(self, accounts):
        """Reports and returns accounts whose owner nobody sent."""
        unknown = set()
        customers = {source.event.customer_id for source in self.sources.values() if source.event}
        partners = {source.event.partner_id for source in self.sources.values() if source.event}
        currencies = {source.event.currency for source in self.sources.values() if source.event}
        owners = {"customer_points": customers, "partner_points": partners, "partner_payable": partners,
            "clearing": currencies}
        for account, unit in sorted(accounts):
            kind, _, name = account.partition(":")
            if name not in owners.get(kind, ()):
                self.f.add("phantom", f"account {account} {unit}: no record that was sent names its owner")
                unknown.add((account, unit))
        return unknown

    def compare(self, what, have, wanted):
        for key in sorted(have.keys() | wanted.keys()):
            if have.get(key) != wanted.get(key):
                self.f.add("unbalanced", f"{what} {key}: {have.get(key)}, the postings come to {wanted.get(key)}")

    # offsets

    def check_offsets(self):
        for where in sorted(self.s.log.keys() | self.s.progress.keys() | self.s.committed.keys()):
            if where[0] not in (self.s.topic, self.s.deferred):
                continue
            first, end = self.s.log.get(where, (0, 0))
            progress, committed = self.s.progress.get(where), self.s.committed.get(where)
            name = f"{where[0]}[{where[1]}]"
            if (progress or 0) > end:
                self.f.add("skipped offset", f"{name}: progress {progress} is beyond the end, {end}")
            if committed is not None and committed > (progress or 0):
                self.f.add("skipped offset", f"{name}: Kafka's commit {committed} is beyond progress {progress}")
            if where[0] == self.s.topic and end > first and not self.s.unsettled and (progress or 0) < end:
                self.f.add("stuck", f"{name}: progress {progress}, the log ends at {end}")
            if not self.s.commit_lags and (committed or 0) < (progress or 0):
                self.f.add("stuck", f"{name}: Kafka's commit {committed} stays behind progress {progress}")


def _amount_category(have, wanted, postings):
    """How a sum of postings differs: something is there once more, something is not there, or it is another number."""
    amounts = [_signed(posting) for posting in postings if _signed(posting) > 0]
    if have > wanted and len(amounts) > 1 and (have - wanted == wanted or amounts.count(have - wanted) > 1):
        return "duplicated"
    if have < wanted and have == 0:
        return "lost"
    return "wrong amount"


def _signed(posting):
    """Positive towards customer or partner, negative when it reverses."""
    normal = posting.debit_account.startswith(("partner_points:", "clearing:"))
    return posting.amount if normal else -posting.amount


def _text(headers, name):
    """The last header of that name as text; None when there is none."""
    found = [value for have, value in headers if have == name]
    return found[-1].decode(errors="replace") if found and found[-1] is not None else None


def _number(headers, name):
    text = _text(headers, name)
    if text is None or not text.removeprefix("-").isdecimal() or not text.isascii():
        return None
    return int(text)


def _named_source(headers):
    """(topic, partition, offset, timestamp_ms or None) of the dw_source_ headers; None unless they name a record."""
    topic = _text(headers, "dw_source_topic")
    partition, offset = _number(headers, "dw_source_partition"), _number(headers, "dw_source_offset")
    if topic is None or partition is None or offset is None or partition < 0 or offset < 0:
        return None
    return topic, partition, offset, _number(headers, "dw_source_timestamp_ms")


def _place(place):
    return f"{place[0]}[{place[1]}]@{place[2]}"


def _list(sources):
    """The first few by name."""
    return ", ".join(map(str, sources[:3])) + (f" and {len(sources) - 3} more" if len(sources) > 3 else "")
