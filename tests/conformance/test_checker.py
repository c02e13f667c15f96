"""
The checker can fail: a small ledger that is right is found so, and every defect that is planted in it is reported,
under its own category and no other.
"""

import hashlib
import json
import unittest
from collections import namedtuple

import checker
from checker.event import CLASS_OF, parse_time_us
from checker.judge import OrderRow, Posting, Snapshot

TOPIC, DEFERRED = "t", "t.deferred"
NOW_MS = parse_time_us("2026-03-02T00:00:00Z") // 1000
RULES = {"rules": [{"id": "base", "kind": "per_amount", "points": 1, "per_minor": 100}]}

Record = namedtuple("Record", "partition offset timestamp_ms key value headers")
TRACE = [("trace", b"\x00\xff"), ("dw_error_code", b"forged"), ("null", None)]


def event(order_id, status, hour, **members):
    return json.dumps({"order_id": order_id, "status": status, "timestamp": f"2026-03-01T{hour:02}:00:00Z",
        **members}).encode()


def hour_us(hour):
    return parse_time_us(f"2026-03-01T{hour:02}:00:00Z")


# What was sent, by partition, in offset order.
SENT = [
    [event("o1", "created", 1, customer_id="c1", partner_id="p1", amount_minor=1050, currency="BRL"),
        event("o1", "delivered", 3),
        event("o1", "in_transit", 2, refunded_total_minor=300),
        b"{",
        event("o2", "delivered", 3, customer_id="c2", partner_id="p2", amount_minor=299, currency="EUR")],
    [event("o3", "created", 1, customer_id="c1"),
        event("o3", "confirmed", 2, customer_id="c9", amount_minor=5, currency="USD"),
        event("o4", "delivered", 3, customer_id="c1", partner_id="p1", amount_minor=500, currency="BRL"),
        event("o5", "delivered", 3, customer_id="c2", partner_id="p1", amount_minor=800, currency="BRL"),
        event("o5", "cancelled", 4),
        event("o6", "assigned", 1, driver_id="d1"),
        event("o6", "picked_up", 2, driver_id="d2")],
]
DEFERRED_PLACE, BAD_PLACE, CONFLICT_PLACE = (1, 2), (0, 3), (1, 1)

ORDERS = [
    OrderRow("o1", "p1", "c1", None, "delivered", "delivered", hour_us(3), 1050, "BRL", 300, 7, 750),
    OrderRow("o2", "p2", "c2", None, "delivered", "delivered", hour_us(3), 299, "EUR", 0, 2, 299),
    OrderRow("o3", None, "c1", None, "created", None, None, None, None, 0, 0, 0),
    OrderRow("o4", "p1", "c1", None, "delivered", "delivered", hour_us(3), 500, "BRL", 0, 5, 500),
    OrderRow("o5", "p1", "c2", None, "cancelled", "cancelled", hour_us(4), 800, "BRL", 0, 0, 0),
    OrderRow("o6", None, None, "d2", "picked_up", None, None, None, None, 0, 0, 0),
]

# (order, kind, amount, partition, offset) in the order of their seq
POSTED = [("o1", "points", 10, 0, 1), ("o1", "points", -3, 0, 2), ("o1", "order_credit", 1050, 0, 1),
    ("o1", "order_credit", -300, 0, 2), ("o2", "points", 2, 0, 4), ("o2", "order_credit", 299, 0, 4),
    ("o4", "points", 5, 1, 2), ("o4", "order_credit", 500, 1, 2), ("o5", "points", 8, 1, 3),
    ("o5", "points", -8, 1, 4), ("o5", "order_credit", 800, 1, 3), ("o5", "order_credit", -800, 1, 4)]


def make_posting(row, seq, kind, amount, partition, offset):
    """Both sides, from the order's row."""
    if kind == "points":
        sides = f"partner_points:{row.partner_id}", f"customer_points:{row.customer_id}"
        unit, rule = "PTS", ("base", 1)
    else:
        sides, unit = (f"clearing:{row.currency}", f"partner_payable:{row.partner_id}"), row.currency
        rule = None, None
    return Posting(row.order_id, kind, seq, unit, abs(amount), *(sides if amount > 0 else sides[::-1]), *rule, TOPIC,
        partition, offset)


def source_headers(place, timestamp_ms=NOW_MS):
    return [("dw_source_topic", TOPIC.encode()), ("dw_source_partition", b"%d" % place[0]),
        ("dw_source_offset", b"%d" % place[1]), ("dw_source_timestamp_ms", b"%d" % timestamp_ms)]


def make_letter(place, code, **changed):
    own = {"dw_error_class": CLASS_OF[code], "dw_error_code": code, "dw_error_field": "", "dw_error_message": "why",
        "dw_attempts": "1", "dw_worker": "w", **changed}
    return Record(0, 0, NOW_MS, b"k", SENT[place[0]][place[1]], TRACE + source_headers(place) +
        [(name, value.encode()) for name, value in own.items()])


def slot_headers(due_ms, slot_ms=NOW_MS, limit=b"20:77"):
    return [("dw_not_before_ms", b"%d" % due_ms), ("dw_slot_ms", b"%d" % slot_ms), ("dw_limit", limit)]


def make_deferral(place, offset=0, due_ms=NOW_MS - 1000):
    return Record(0, offset, NOW_MS, b"k", SENT[place[0]][place[1]],
        TRACE + slot_headers(due_ms) + source_headers(place))


def right():
    """The snapshot of a worker that did everything right."""
    journal, rules = checker.Journal(), checker.Rulebook()
    rules.apply(RULES)
    rules.worker_starts()
    for partition, values in enumerate(SENT):
        records = [Record(partition, offset, NOW_MS, b"k", value, TRACE) for offset, value in enumerate(values)]
        journal.record(TOPIC, records, [(i, partition, i, NOW_MS) for i in range(len(records))])
    offsets = {(TOPIC, 0): len(SENT[0]), (TOPIC, 1): len(SENT[1]), (DEFERRED, 0): 1}
    s = Snapshot(journal, rules, TOPIC, DEFERRED, orders=list(ORDERS), progress=dict(offsets), committed=dict(offsets),
        log={where: (0, end) for where, end in offsets.items()}, deferrals=[make_deferral(DEFERRED_PLACE)],
        letters=[make_letter(BAD_PLACE, "not_json"), make_letter(CONFLICT_PLACE, "order_conflict")], now_ms=NOW_MS,
        commit_lags=False)
    rows = {row.order_id: row for row in ORDERS}
    seqs = {}
    for order_id, kind, amount, partition, offset in POSTED:
        seqs[order_id, kind] = seqs.get((order_id, kind), 0) + 1
        s.postings.append(make_posting(rows[order_id], seqs[order_id, kind], kind, amount, partition, offset))
    add_up(s)
    return s


def amount_of(posting):
    forward = posting.debit_account.startswith(("partner_points:", "clearing:"))
    return posting.amount if forward else -posting.amount


def add_up(s):
    """Makes balances and what orders say is posted agree with the postings, as a worker's transaction would."""
    sums = {(row.order_id, kind): 0 for row in s.orders for kind in ("points", "order_credit")}
    sides = {}
    for posting in s.postings:
        if (posting.order_id, posting.kind) in sums:
            sums[posting.order_id, posting.kind] += amount_of(posting)
        for account, index in ((posting.debit_account, 0), (posting.credit_account, 1)):
            sides.setdefault((account, posting.unit), [0, 0])[index] += posting.amount
    s.orders = [row._replace(points=sums[row.order_id, "points"], order_credit_minor=sums[row.order_id, "order_credit"])
        for row in s.orders]
    s.balances = {key: tuple(both) for key, both in sides.items()}
    s.customer_points = {account.partition(":")[2]: credits - debits for (account, _), (debits, credits) in
        sides.items() if account.startswith("customer_points:")}
    s.partner_credit = {(account.partition(":")[2], unit): credits - debits for (account, unit), (debits, credits) in
        sides.items() if account.startswith("partner_payable:")}


# Ways to change a snapshot


def change_order(s, order_id, **members):
    s.orders = [row._replace(**members) if row.order_id == order_id else row for row in s.orders]


def drop_order(s, order_id):
    s.orders = [row for row in s.orders if row.order_id != order_id]
    s.postings = [posting for posting in s.postings if posting.order_id != order_id]
    add_up(s)


def find_posting(s, order_id, kind, seq=1):
    [index] = [i for i, one in enumerate(s.postings) if (one.order_id, one.kind, one.seq) == (order_id, kind, seq)]
    return index


def drop_posting(s, order_id, kind, seq=1):
    del s.postings[find_posting(s, order_id, kind, seq)]
    add_up(s)


def change_posting(s, order_id, kind, number=1, **members):
    index = find_posting(s, order_id, kind, number)
    s.postings[index] = s.postings[index]._replace(**members)
    add_up(s)


def double_posting(s, order_id, kind):
    one = s.postings[find_posting(s, order_id, kind)]
    last = max(other.seq for other in s.postings if (other.order_id, other.kind) == (order_id, kind))
    s.postings.append(one._replace(seq=last + 1))
    add_up(s)


def set_offset(s, topic, partition, offset):
    s.progress[topic, partition] = s.committed[topic, partition] = offset


def change_deferral(s, **members):
    s.deferrals[0] = s.deferrals[0]._replace(**members)


def change_letter(s, index, value=..., key=..., drop=(), **headers):
    """The one of `index`, or one more."""
    if index == len(s.letters):
        s.letters.append(make_letter(BAD_PLACE, "not_json"))
    old = s.letters[index]
    new = [(name, headers[name].encode() if name in headers and i >= len(TRACE) else content)
        for i, (name, content) in enumerate(old.headers) if name not in drop]
    s.letters[index] = old._replace(headers=new, value=old.value if value is ... else value,
        key=old.key if key is ... else key)


def send(s, partition, value, acknowledged=True, timestamp_ms=NOW_MS):
    """One more record, below progress. Returns it."""
    offset = s.log[TOPIC, partition][1]
    record = Record(partition, offset, timestamp_ms, b"k", value, TRACE)
    s.journal.record(TOPIC, [record], [(0, partition, offset, timestamp_ms)] if acknowledged else [])
    s.log[TOPIC, partition] = 0, offset + 1
    set_offset(s, TOPIC, partition, offset + 1)
    return record


def topic_as_sent(s):
    s.main = [Record(entry.partition, entry.offset, entry.timestamp_ms, entry.key, entry.value, entry.headers)
        for entry in s.journal.acknowledged]


def letter_of_last(s, code):
    """Of the record that was sent last."""
    entry = s.journal.acknowledged[-1]
    any_letter = make_letter(BAD_PLACE, code)
    return any_letter._replace(value=entry.value, headers=TRACE +
        source_headers((entry.partition, entry.offset), entry.timestamp_ms) + any_letter.headers[-6:])


def without_value(s, **changed):
    """The letter of a record that was too large for its topic."""
    old = s.letters[0]
    instead = {"dw_value_bytes": str(len(old.value)), "dw_value_sha256": hashlib.sha256(old.value).hexdigest(),
        **changed}
    s.letters[0] = old._replace(value=None, headers=old.headers + [(n, v.encode()) for n, v in instead.items()])


NOBODYS = OrderRow("o9", None, None, None, "created", None, None, None, None, 0, 0, 0)

# name: (category, what is done to the snapshot)
DEFECTS = {
    "an order is missing": ("lost", lambda s: drop_order(s, "o2")),
    "an order without postings is missing": ("lost", lambda s: drop_order(s, "o6")),
    "its points were not posted": ("lost", lambda s: drop_posting(s, "o2", "points")),
    "its credit was not posted": ("lost", lambda s: drop_posting(s, "o2", "order_credit")),
    "the last status did not arrive": ("lost", lambda s: change_order(s, "o6", progress="assigned")),
    "the refund did not arrive": ("lost", lambda s: change_order(s, "o1", refunded_total_minor=0)),
    "the earlier driver stayed": ("lost", lambda s: change_order(s, "o6", driver_id="d1")),
    "no driver": ("lost", lambda s: change_order(s, "o6", driver_id=None)),
    "no customer": ("lost", lambda s: change_order(s, "o3", customer_id=None)),

    "points twice": ("duplicated", lambda s: double_posting(s, "o2", "points")),
    "credit twice": ("duplicated", lambda s: double_posting(s, "o4", "order_credit")),
    "a credit twice that was reversed in part": ("duplicated", lambda s: double_posting(s, "o1", "points")),

    "an order that nobody sent": ("phantom", lambda s: s.orders.append(NOBODYS)),
    "a posting from a record that nobody sent": ("phantom", lambda s: change_posting(s, "o2", "points",
        source_offset=99)),
    "a posting from another order's record": ("phantom", lambda s: change_posting(s, "o2", "points", source_offset=0)),
    "a posting from a deferred copy": ("phantom", lambda s: change_posting(s, "o4", "points", source_topic=DEFERRED,
        source_partition=0, source_offset=0)),
    "a letter of a record that nobody sent": ("phantom", lambda s: change_letter(s, 2, dw_source_offset="77")),
    "a letter that names no record": ("phantom", lambda s: change_letter(s, 2, dw_source_partition="x")),
    "a deferral of a record that nobody sent": ("phantom", lambda s: change_deferral(s, headers=TRACE +
        slot_headers(0) + source_headers((1, 99)))),
    "a deferral without a slot's limit": ("phantom", lambda s: change_deferral(s, headers=TRACE +
        slot_headers(0, limit=b"0:0") + s.deferrals[0].headers[-4:])),
    "a deferral with a limit's rate alone": ("phantom", lambda s: change_deferral(s, headers=TRACE +
        slot_headers(0, limit=b"20") + s.deferrals[0].headers[-4:])),
    "a deferral with a limit and no slot": ("phantom", lambda s: change_deferral(s, headers=TRACE +
        slot_headers(0, slot_ms=0) + s.deferrals[0].headers[-4:])),
    "a deferral with another value": ("phantom", lambda s: change_deferral(s, value=b"{}")),
    "a deferral with another key": ("phantom", lambda s: change_deferral(s, key=b"")),
    "a deferral without the record's headers": ("phantom", lambda s: change_deferral(s,
        headers=s.deferrals[0].headers[1:])),
    "a deferral of a record without a partner": ("phantom", lambda s: s.deferrals.append(make_deferral((1, 0)))),

    "points rounded": ("wrong amount", lambda s: change_posting(s, "o2", "points", amount=3)),
    "points short by one": ("wrong amount", lambda s: change_posting(s, "o4", "points", amount=4)),
    "credit of another amount": ("wrong amount", lambda s: change_posting(s, "o2", "order_credit", amount=290)),
    "a shifted timestamp": ("wrong amount", lambda s: change_order(s, "o4", outcome_at_us=hour_us(3) + 1)),
    "an outcome that nobody sent": ("wrong amount", lambda s: change_order(s, "o5", outcome="returned")),
    "progress that nobody sent": ("wrong amount", lambda s: change_order(s, "o6", progress="in_transit")),
    "an amount that nobody sent": ("wrong amount", lambda s: change_order(s, "o5", amount_minor=801)),
    "a refund that nobody sent": ("wrong amount", lambda s: change_order(s, "o5", refunded_total_minor=1)),
    "a driver that nobody sent": ("wrong amount", lambda s: change_order(s, "o6", driver_id="d3")),
    "a customer of no record": ("wrong amount", lambda s: change_order(s, "o3", customer_id="c2")),
    "the later of two customers": ("wrong amount", lambda s: change_order(s, "o3", customer_id="c9",
        progress="confirmed", amount_minor=5, currency="USD")),
    "a currency of no record": ("wrong amount", lambda s: change_order(s, "o5", currency="EUR")),
    "a rule that does not exist": ("wrong amount", lambda s: change_posting(s, "o5", "points", rule_version=2)),
    "a rule on an order credit": ("wrong amount", lambda s: change_posting(s, "o2", "order_credit", rule_id="base",
        rule_version=1)),
    "credit to another partner": ("wrong amount", lambda s: change_posting(s, "o2", "order_credit",
        credit_account="partner_payable:p1")),
    "points to another customer": ("wrong amount", lambda s: change_posting(s, "o2", "points",
        credit_account="customer_points:c1")),
    "a posting in another unit": ("wrong amount", lambda s: change_posting(s, "o2", "order_credit", unit="BRL")),

    "a view of points": ("unbalanced", lambda s: s.customer_points.update(c1=13)),
    "a view of credit": ("unbalanced", lambda s: s.partner_credit.update({("p2", "EUR"): 298})),
    "an account": ("unbalanced", lambda s: s.balances.update({("clearing:EUR", "EUR"): (300, 0)})),
    "an account that is missing": ("unbalanced", lambda s: s.balances.pop(("partner_points:p2", "PTS"))),
    "a customer who is missing": ("unbalanced", lambda s: s.customer_points.pop("c2")),
    "what an order says is posted": ("unbalanced", lambda s: change_order(s, "o1", points=8)),
    "a gap in seq": ("unbalanced", lambda s: change_posting(s, "o1", "points", 2, seq=3)),
    "a seq twice": ("unbalanced", lambda s: change_posting(s, "o1", "points", 2, seq=1)),

    "progress below the end": ("stuck", lambda s: set_offset(s, TOPIC, 0, 4)),
    "a commit that stays behind": ("stuck", lambda s: s.committed.update({(TOPIC, 0): 4})),
    "a deferral that was due": ("stuck", lambda s: set_offset(s, DEFERRED, 0, 0)),

    "a commit beyond progress": ("skipped offset", lambda s: s.committed.update({(TOPIC, 0): 6})),
    "progress beyond the end": ("skipped offset", lambda s: set_offset(s, TOPIC, 0, 6)),

    "no letter": ("dead letters", lambda s: s.letters.pop(0)),
    "no letter of a conflict": ("dead letters", lambda s: s.letters.pop(1)),
    "a letter with another code": ("dead letters", lambda s: change_letter(s, 0, dw_error_code="too_deep")),
    "a letter with another class": ("dead letters", lambda s: change_letter(s, 0, dw_error_class="invalid")),
    "a code that does not exist": ("dead letters", lambda s: change_letter(s, 0, dw_error_code="odd")),
    "a letter without a class": ("dead letters", lambda s: change_letter(s, 0, drop=["dw_error_class"])),
    "a letter without a message": ("dead letters", lambda s: change_letter(s, 0, dw_error_message="")),
    "a letter with another value": ("dead letters", lambda s: change_letter(s, 0, value=b"}")),
    "a letter with another key": ("dead letters", lambda s: change_letter(s, 0, key=None)),
    "a letter without the record's headers": ("dead letters", lambda s: change_letter(s, 0, drop=["trace"])),
    "a letter of another time": ("dead letters", lambda s: change_letter(s, 0, dw_source_timestamp_ms="1")),
    "a letter of no attempt": ("dead letters", lambda s: change_letter(s, 0, dw_attempts="0")),
    "a letter of a good record": ("dead letters", lambda s: s.letters.append(make_letter((1, 5), "not_json"))),
    "a conflict that is none": ("dead letters", lambda s: s.letters.append(make_letter((1, 5), "order_conflict"))),
    "a letter without value, of another length": ("dead letters", lambda s: without_value(s, dw_value_bytes="2")),
    "a letter without value, of another hash": ("dead letters", lambda s: without_value(s, dw_value_sha256="00")),
}

# Defects that take more than a step, by their function's name.


def planted(category):
    def add(plant):
        DEFECTS[plant.__name__.replace("_", " ")] = category, plant

    return add


@planted("lost")
def the_first_outcome_stayed(s):
    change_order(s, "o5", outcome="delivered", outcome_at_us=hour_us(3))
    drop_posting(s, "o5", "points", 2)
    drop_posting(s, "o5", "order_credit", 2)


@planted("lost")
def the_log_holds_another_record(s):
    topic_as_sent(s)
    s.main[-1] = s.main[-1]._replace(value=event("o6", "picked_up", 2, driver_id="d4"))


@planted("lost")
def the_log_lost_a_record(s):
    topic_as_sent(s)
    s.main.pop()


@planted("lost")
def a_record_that_nobody_knows_to_have_arrived_and_that_is_in_the_log(s):
    record = send(s, 0, event("o7", "created", 1), acknowledged=False)
    topic_as_sent(s)
    s.main.append(record)


@planted("phantom")
def the_topic_holds_what_nobody_sent(s):
    record = send(s, 0, event("o1", "created", 1))
    s.journal.acknowledged.pop()
    topic_as_sent(s)
    s.main.append(record)


@planted("phantom")
def an_account_that_nobody_sent(s):
    for account in ("customer_points:c7", "partner_points:p7"):
        s.balances[account, "PTS"] = 0, 0


@planted("phantom")
def a_posting_from_a_record_in_conflict(s):
    send(s, 0, event("o2", "created", 1, customer_id="cx"))
    s.letters.append(letter_of_last(s, "order_conflict"))
    change_posting(s, "o2", "points", source_offset=5)


@planted("phantom")
def an_order_of_a_refused_record(s):
    send(s, 0, event("o7", "created", 1, attempt=0))
    s.letters.append(letter_of_last(s, "out_of_range"))
    s.orders.append(NOBODYS._replace(order_id="o7"))


@planted("wrong amount")
def a_rule_that_was_never_in_force(s):
    s.rules.apply({"rules": [{"id": "other", "kind": "per_order", "points": 5, "partner_id": "p9"}]})
    change_posting(s, "o4", "points", rule_id="other")


@planted("wrong amount")
def points_of_a_version_that_was_replaced_before_any_worker_started(s):
    s.rules.apply({"rules": [{"id": "base", "kind": "per_amount", "points": 1, "per_minor": 50}]})
    s.rules.first_state = 2
    for order_id, points in (("o2", 5), ("o1", 21)):
        change_posting(s, order_id, "points", amount=points, rule_version=2)
    change_posting(s, "o1", "points", 2, amount=6, rule_version=2)


@planted("wrong amount")
def points_rounded_to_the_double(s):
    send(s, 0, event("o7", "delivered", 1, customer_id="c1", partner_id="p1", amount_minor=160, currency="BRL"))
    row = OrderRow("o7", "p1", "c1", None, "delivered", "delivered", hour_us(1), 160, "BRL", 0, 2, 160)
    s.orders.append(row)
    s.postings += [make_posting(row, 1, "points", 2, 0, 5), make_posting(row, 1, "order_credit", 160, 0, 5)]
    add_up(s)


@planted("wrong amount")
def points_of_a_partner_who_takes_part_in_credit_only(s):
    s.rules.states[1][1]["p2"] = frozenset(["order_credit"])


@planted("stuck")
def no_progress_at_all(s):
    del s.progress[TOPIC, 1], s.committed[TOPIC, 1]


@planted("skipped offset")
def a_commit_without_progress(s):
    del s.progress[DEFERRED, 0]
    s.deferrals.clear()


@planted("dead letters")
def a_refused_record_without_a_letter_whatever_its_fault(s):
    send(s, 0, event("o7", "created", 1, attempt=0))


@planted("dead letters")
def a_record_that_is_refused_by_this_workers_options_only(s):
    s.refuse_unknown = True
    send(s, 0, event("o6", "created", 1, colour="red"))


@planted("dead letters")
def a_record_from_the_future(s):
    send(s, 0, event("o6", "created", 1), timestamp_ms=hour_us(1) // 1000 - 300001)


class CheckerTest(unittest.TestCase):
    def assert_clean(self, s):
        findings = checker.judge(s)
        self.assertTrue(findings.clean(), findings.table())
        return findings

    def test_checker__a_right_ledger_is_clean(self):
        findings = self.assert_clean(right())
        self.assertEqual(findings.examined, {"records": 12, "orders": 6, "postings": 12, "dead letters": 2,
            "deferrals": 1})

    def test_checker__every_defect_is_found_under_its_own_name(self):
        seen = {category: 0 for category in checker.CATEGORIES}
        for name, (category, plant) in DEFECTS.items():
            with self.subTest(name):
                s = right()
                plant(s)
                findings = checker.judge(s)
                self.assertEqual(findings.categories(), {category}, findings.table())
                self.assertIn(category, findings.table())
                seen[category] += 1
        self.assertGreaterEqual(min(seen.values()), 3, seen)

    # what is no defect

    def test_checker__the_topic_as_it_was_sent_is_clean(self):
        s = right()
        topic_as_sent(s)
        self.assert_clean(s)

    def test_checker__an_unacknowledged_record_is_not_asked_for(self):
        s = right()
        s.journal.record(TOPIC, [Record(0, 0, 0, b"k", event("o7", "created", 1), TRACE)], [])
        topic_as_sent(s)
        self.assert_clean(s)

    def test_checker__a_record_that_the_producer_sent_twice_is_a_duplicate(self):
        s = right()
        record = send(s, 0, SENT[0][1], acknowledged=False)
        topic_as_sent(s)
        s.main.append(record)
        self.assert_clean(s)

    def test_checker__copies_may_repeat(self):
        s = right()
        s.letters += s.letters
        s.deferrals.append(make_deferral(DEFERRED_PLACE, 1))
        s.log[DEFERRED, 0] = 0, 2
        set_offset(s, DEFERRED, 0, 2)
        self.assert_clean(s)

    def test_checker__a_letter_may_go_without_its_value(self):
        s = right()
        without_value(s)
        self.assert_clean(s)

    def test_checker__any_code_of_several_faults_is_right(self):
        for code in ("out_of_range", "unknown_status", "missing_field"):
            s = right()
            send(s, 0, event("o7", "nowhere", 1, attempt=0, currency="EUR"))
            s.letters.append(letter_of_last(s, code))
            self.assert_clean(s)

    def test_checker__a_deferral_that_is_not_due_may_wait(self):
        for known in (True, False):
            s = right()
            s.deferrals = [make_deferral(DEFERRED_PLACE, due_ms=NOW_MS + 1000)]
            set_offset(s, DEFERRED, 0, 0)
            if not known:
                drop_order(s, "o4")
            self.assert_clean(s)

    def test_checker__a_worker_that_was_stopped_may_leave_work(self):
        s = right()
        s.unsettled = True
        set_offset(s, TOPIC, 1, 4)
        drop_order(s, "o6")
        drop_posting(s, "o5", "points", 2)
        drop_posting(s, "o5", "order_credit", 2)
        change_order(s, "o5", outcome="delivered", outcome_at_us=hour_us(3), progress="delivered")
        self.assert_clean(s)
        # But not more than is beyond progress.
        drop_order(s, "o4")
        self.assertEqual(checker.judge(s).categories(), {"lost"})

    def test_checker__a_commit_may_lag_behind_a_worker_that_was_killed(self):
        s = right()
        s.commit_lags = True
        s.committed[TOPIC, 0] = 2
        self.assert_clean(s)

    def test_checker__what_the_database_refused_need_not_be_there(self):
        for drop in (True, False):
            s = right()
            s.letters.append(make_letter((0, 4), "database_rejected"))
            if drop:
                drop_order(s, "o2")
            self.assert_clean(s)

    def test_checker__accepted_loss_need_not_be_there(self):
        s = right()
        s.accepted_loss = [(TOPIC, 0, 4, 5)]
        drop_order(s, "o2")
        self.assert_clean(s)

    def test_checker__across_partitions_either_customer_may_be_first(self):
        for mine, other, place in (("ca", "cb", (1, 7)), ("cb", "ca", (0, 5))):
            s = right()
            send(s, 0, event("o7", "created", 1, customer_id="ca"))
            letters = {(0, 5): letter_of_last(s, "order_conflict")}
            send(s, 1, event("o7", "created", 1, customer_id="cb"))
            letters[1, 7] = letter_of_last(s, "order_conflict")
            s.orders.append(NOBODYS._replace(order_id="o7", customer_id=mine))
            self.assertEqual(checker.judge(s).categories(), {"dead letters"})
            s.letters.append(letters[place])
            self.assert_clean(s)
            change_order(s, "o7", customer_id=other)
            self.assertEqual(checker.judge(s).categories(), {"dead letters"})

    def test_checker__a_conflict_may_be_decided_anew_when_history_was_lost(self):
        s = right()
        s.letters.append(make_letter((1, 0), "order_conflict"))
        self.assertEqual(checker.judge(s).categories(), {"dead letters"})
        s.history_lost = True
        self.assert_clean(s)

    def test_checker__rules_applied_later_price_as_they_were_in_force(self):
        later = {"rules": [{"id": "base", "kind": "per_amount", "points": 3, "per_minor": 100}]}
        s = right()
        s.rules.apply(later)
        self.assert_clean(s)
        change_posting(s, "o2", "points", amount=8, rule_version=2)
        self.assert_clean(s)
        # Not with the name of one and the arithmetic of the other.
        change_posting(s, "o2", "points", rule_version=1)
        self.assertEqual(checker.judge(s).categories(), {"wrong amount"})

    def test_checker__a_second_delivery_is_priced_by_the_rules_of_its_own_time(self):
        s = right()
        s.rules.states.pop()
        s.rules.versions.clear()
        s.rules.apply({"rules": [{"id": "base", "kind": "per_amount", "points": 1, "per_minor": 100,
            "valid_to": "2026-03-01T06:00:00Z"}, {"id": "late", "kind": "per_amount", "points": 2, "per_minor": 100,
            "valid_from": "2026-03-01T06:00:00Z"}]})
        send(s, 0, event("o2", "delivered", 7))
        change_order(s, "o2", outcome_at_us=hour_us(7))
        self.assertEqual(checker.judge(s).categories(), {"wrong amount"})
        row = [row for row in s.orders if row.order_id == "o2"][0]
        s.postings.append(make_posting(row, 2, "points", 3, 0, 5)._replace(rule_id="late"))
        add_up(s)
        self.assert_clean(s)
        # A rule that asks for what was there already posts nothing.
        for terms, clean in (({"points": 1}, True), ({"points": 0}, False)):
            s = right()
            s.rules.states.pop()
            s.rules.versions.clear()
            s.rules.apply({"rules": [{"id": "base", "kind": "per_amount", "points": 1, "per_minor": 100,
                "valid_to": "2026-03-01T06:00:00Z"}, {"id": "late", "kind": "per_amount", "per_minor": 100, **terms}]})
            send(s, 0, event("o2", "delivered", 7))
            change_order(s, "o2", outcome_at_us=hour_us(7))
            self.assertEqual(checker.judge(s).clean(), clean)

    def test_checker__foreign_records_of_the_deferred_topic_are_their_own_source(self):
        s = right()
        value = event("o7", "delivered", 1, customer_id="c1", partner_id="p1", amount_minor=100, currency="BRL")
        foreign = Record(0, 1, NOW_MS, None, value, [("dw_source_offset", b"-7")])
        s.journal.record(DEFERRED, [foreign], [(0, 0, 1, NOW_MS)])
        s.deferrals.append(foreign)
        s.log[DEFERRED, 0] = 0, 2
        set_offset(s, DEFERRED, 0, 2)
        row = OrderRow("o7", "p1", "c1", None, "delivered", "delivered", hour_us(1), 100, "BRL", 0, 1, 100)
        self.assertEqual(checker.judge(s).categories(), {"lost"})
        s.orders.append(row)
        s.postings += [make_posting(row, 1, kind, amount, 0, 1)._replace(source_topic=DEFERRED)
            for kind, amount in (("points", 1), ("order_credit", 100))]
        add_up(s)
        self.assert_clean(s)


if __name__ == "__main__":
    unittest.main()
