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


def ledger_totals(scene):
    """The same as the database has it; the three sums that must agree are taken from three views."""
    orders, points, credit = scene.psql("SELECT count(*), coalesce(sum(points), 0), "
        "coalesce(sum(order_credit_minor), 0) FROM order_state")[0]
    posted = dict(scene.psql("SELECT kind, sum(amount * CASE WHEN debit_account LIKE 'partner_points:%' "
        "OR debit_account LIKE 'clearing:%' THEN 1 ELSE -1 END) FROM postings GROUP BY 1"))
    wallets = scene.psql("SELECT coalesce(sum(points), 0) FROM customer_points")[0][0]
    payable = scene.psql("SELECT coalesce(sum(credit_minor), 0) FROM partner_credit")[0][0]
    sides = scene.psql("SELECT unit FROM account_balances GROUP BY unit HAVING sum(debits) <> sum(credits)")
    if sides:
        raise AssertionError(f"debits and credits differ in {sides}")
    by_view = {(int(points), int(credit)), (int(posted.get("points", 0)), int(posted.get("order_credit", 0))),
        (int(wallets), int(payable))}
    if len(by_view) != 1:
        raise AssertionError(f"views disagree: {by_view}")
    return int(orders), int(points), int(credit)
