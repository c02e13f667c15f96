"""Rules as they were applied, one after another, and what each state of them says about an order."""

import dataclasses

from .event import parse_time_us

POINTS_MAX = 2 ** 53 - 1
KINDS = frozenset(("points", "order_credit"))


@dataclasses.dataclass(frozen=True)
class Rule:
    id: str
    kind: str
    points: int
    per_minor: int
    multiplier_bp: int
    min_order_minor: int
    max_points_per_order: int | None
    partner_id: str | None
    currency: str | None
    valid_from_us: int | None
    valid_to_us: int | None

    @classmethod
    def from_file(cls, row):
        def time_us(name):
            return parse_time_us(row[name]) if name in row else None

        return cls(row["id"], row["kind"], row["points"], row.get("per_minor", 1), row.get("multiplier_bp", 10000),
            row.get("min_order_minor", 0), row.get("max_points_per_order"), row.get("partner_id"),
            row.get("currency"), time_us("valid_from"), time_us("valid_to"))

    def eligible(self, partner_id, currency, at_us):
        return (self.partner_id in (None, partner_id) and self.currency in (None, currency) and
            (self.valid_from_us is None or self.valid_from_us <= at_us) and
            (self.valid_to_us is None or at_us < self.valid_to_us))

    def earns(self, amount_minor, refunded_minor):
        """Points of one order."""
        net = max(0, amount_minor - refunded_minor)
        if net == 0 or amount_minor < self.min_order_minor:
            return 0
        if self.kind == "per_amount":
            points = net * self.points * self.multiplier_bp // (self.per_minor * 10000)
        else:
            points = self.points * self.multiplier_bp // 10000
        if self.max_points_per_order is not None:
            points = min(points, self.max_points_per_order)
        return min(points, POINTS_MAX)

    def rank(self):
        """Of those that are eligible the one with the smallest goes."""
        latest_first = (1, 0) if self.valid_from_us is None else (0, -self.valid_from_us)
        return self.partner_id is None, latest_first, self.id.encode()


@dataclasses.dataclass(frozen=True)
class Terms:
    """What an order is priced by: (rule id, version) or None, its rule or None, and the partner's kinds."""

    name: tuple | None
    rule: Rule | None
    kinds: frozenset


class Rulebook:
    """
    Every state that the rules have been in; state 0 has none. Workers take up a change some time after it was applied,
    so an order may have been priced by any state since the first one that a worker can have read: `first_state`.
    """

    def __init__(self):
        self.versions = {}  # rule id -> its versions, the first is number 1
        self.states = [({}, {})]  # ({rule id: number of its newest version}, {partner: kinds})
        self.first_state = None

    def apply(self, file):
        """The content of a rule file that was applied."""
        newest, partners = (dict(part) for part in self.states[-1])
        for row in file.get("rules", []):
            rule = Rule.from_file(row)
            known = self.versions.setdefault(rule.id, [])
            if not known or known[-1] != rule:
                known.append(rule)
            newest[rule.id] = len(known)
        for row in file.get("partners", []):
            partners[row["partner_id"]] = frozenset(row.get("kinds", KINDS))
        self.states.append((newest, partners))

    def worker_starts(self):
        """The first worker reads the rules from here on."""
        if self.first_state is None:
            self.first_state = len(self.states) - 1

    def possible_terms(self, partner_id, currency, at_us):
        """The Terms that such an order may have got, one for each state, equal ones once."""
        found = []
        for newest, partners in self.states[self.first_state or 0:]:
            rules = [(self.versions[name][number - 1], number) for name, number in newest.items()]
            fitting = [(rule.rank(), rule, number) for rule, number in rules
                if rule.eligible(partner_id, currency, at_us)]
            kinds = partners.get(partner_id, KINDS)
            if fitting:
                _, rule, number = min(fitting, key=lambda one: one[0])
                terms = Terms((rule.id, number), rule, kinds)
            else:
                terms = Terms(None, None, kinds)
            if terms not in found:
                found.append(terms)
        return found
