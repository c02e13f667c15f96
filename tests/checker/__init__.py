"""
The offline checker: from what producers were told (journal.py) and the rules that were applied (rules.py) it
recomputes what every order, customer and partner should have, and names every difference (judge.py). It shares no
code with the worker: event.py decodes and order.py merges on their own, from the contract's text.

journal.py, event.py, rules.py, order.py and judge.py are pure; reading.py alone asks servers.
"""

from .findings import CATEGORIES, Findings
from .journal import Entry, Journal
from .judge import Snapshot, judge
from .rules import Rulebook

__all__ = ["CATEGORIES", "Entry", "Findings", "Journal", "Rulebook", "Snapshot", "judge"]
