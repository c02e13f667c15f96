"""DeliveryEvents for tests, and what a ledger must hold after them."""

WHEN = "2026-03-01T10:00:00Z"

# One point per 100 minor units, for any partner.
BASE_RULES = {"rules": [{"id": "base", "kind": "per_amount", "points": 1, "per_minor": 100}]}


def event(order_id, status="created", timestamp=WHEN, **members):
    return {"order_id": order_id, "status": status, "timestamp": timestamp, **members}


def delivered(order_id, amount_minor=1000, customer_id="c1", partner_id="p1", currency="BRL", **members):
    """One event that earns points and an order credit at once."""
    return event(order_id, "delivered", customer_id=customer_id, partner_id=partner_id, amount_minor=amount_minor,
        currency=currency, **members)


class Expected:
    """The sums that delivered orders call for under BASE_RULES, each order once."""

    def __init__(self, events=()):
        self.orders = {}
        self.add(events)

    def add(self, events):
        for one in events:
            self.orders[one["order_id"]] = one

    def totals(self):
        """(orders, points, credit in minor units)"""
        amounts = [one["amount_minor"] for one in self.orders.values()]
        return len(amounts), sum(amount // 100 for amount in amounts), sum(amounts)


# One statement, so one snapshot: it must agree while batches commit, too [I4].
TOTALS = """
WITH posted AS (SELECT kind, CASE WHEN debit_account ~ '^(partner_points|clearing):' THEN amount ELSE -amount END
                       AS amount FROM postings)
SELECT (SELECT count(*) FROM order_state),
       (SELECT coalesce(sum(points), 0) FROM order_state),
       (SELECT coalesce(sum(order_credit_minor), 0) FROM order_state),
       (SELECT coalesce(sum(points), 0) FROM customer_points),
       (SELECT coalesce(sum(credit_minor), 0) FROM partner_credit),
       (SELECT coalesce(sum(amount), 0) FROM posted WHERE kind = 'points'),
       (SELECT coalesce(sum(amount), 0) FROM posted WHERE kind = 'order_credit'),
       (SELECT string_agg(unit, ' ') FROM (SELECT unit FROM account_balances GROUP BY unit
                                           HAVING sum(debits) <> sum(credits)) uneven)
"""


def ledger_totals(scene):
    """The same as the database has it; the sums that must agree are taken from three views."""
    orders, *sums, uneven = scene.psql(TOTALS)[0]
    if uneven:
        raise AssertionError(f"debits and credits differ in {uneven}")
    by_view = set(zip(map(int, sums[::2]), map(int, sums[1::2])))
    if len(by_view) != 1:
        raise AssertionError(f"views disagree: {by_view}")
    return int(orders), *by_view.pop()
