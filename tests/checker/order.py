"""
What the records of one order come to (contract, section 3). Each fact is a maximum over a chain of (key, value); a
record that the worker may know or not widens what the ledger may hold, from the maximum of those it must know upwards.
"""

from .event import DECISIVE, RANKS

NAMES = {rank: name for name, rank in RANKS.items()}
FIXED = ("customer_id", "partner_id", "currency")


def chains(events):
    """{fact as order_state calls it: [(key, value)]}"""
    decisive = [event for event in events if event.rank >= DECISIVE]
    return {
        "progress": [(event.rank, NAMES[event.rank]) for event in events],
        "outcome": [((event.at_us, event.rank), (NAMES[event.rank], event.at_us)) for event in decisive],
        "amount_minor": [((event.at_us, event.amount_minor), event.amount_minor) for event in events
            if event.amount_minor is not None],
        "refunded_total_minor": [(0, 0)] + [(event.refunded_minor, event.refunded_minor) for event in events],
        "driver_id": [((event.at_us, event.driver_id.encode()), event.driver_id) for event in events
            if event.driver_id is not None],
    }


def top(chain):
    """The value of the greatest key, None of an empty chain."""
    return max(chain, key=lambda link: link[0])[1] if chain else None


def facts(events):
    """{fact: value}, the outcome as (status, at_us)."""
    return {name: top(chain) for name, chain in chains(events).items()}


def judge_fact(have, required, optional):
    """`required`, `optional`: chains. Returns: None when `have` is right; "lost" when it lags; else "wrong amount"."""
    wanted = top(required)
    floor = max((key for key, _ in required), default=None)
    allowed = [wanted] + [value for key, value in optional if floor is None or key > floor]
    if have in allowed:
        return None
    lags = have is None or any(have == value for _, value in required)
    return "lost" if lags and wanted is not None else "wrong amount"


def first_fixed(events):
    """Customer, partner and currency when the events are applied in this order: {member: value or None}."""
    fixed = dict.fromkeys(FIXED)
    for event in events:
        if not conflicts(event, fixed):
            for member in FIXED:
                if fixed[member] is None:
                    fixed[member] = getattr(event, member)
    return fixed


def conflicts(event, fixed):
    """The members by which the event contradicts what is fixed."""
    return [member for member in FIXED
        if None not in (getattr(event, member), fixed[member]) and getattr(event, member) != fixed[member]]


def targets(fact, fixed, terms):
    """(points, order_credit) under the terms."""
    outcome, amount = fact["outcome"], fact["amount_minor"]
    if outcome is None or outcome[0] != "delivered" or fixed["partner_id"] is None or amount is None:
        return 0, 0
    refunded = fact["refunded_total_minor"]
    points = credit = 0
    if "points" in terms.kinds and terms.rule and fixed["customer_id"] is not None:
        points = terms.rule.earns(amount, refunded)
    if "order_credit" in terms.kinds:
        credit = max(0, amount - refunded)
    return points, credit
