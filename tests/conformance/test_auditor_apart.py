"""The auditor decides by itself: of the worker's decision core it sees neither a declaration nor a function."""

import re
import unittest

from decoder import ROOT

AUDITOR = sorted([*(ROOT / "worker" / "audit").glob("*.[ch]"), *(ROOT / "worker" / "cli").glob("audit*.[ch]")])
CORE = {"facts.h", "decision.h", "posting.h", "ledger.h", "store.h"}
# Rules are shared as data, not what chooses among them.
CHOOSERS = re.compile(r"\b(rule_eligible|rules_in_force|rules_newest|rules_partner|facts_\w+|decision_\w+|order_apply|"
    r"order_settle)\(")


def includes(path, seen):
    """The file and all of ours that it includes, directly or not."""
    if path in seen:
        return seen
    seen.add(path)
    for name in re.findall(r'^#include "([^"]+)"', path.read_text(), re.M):
        if (ROOT / name).exists():
            includes(ROOT / name, seen)
    return seen


class AuditorApart(unittest.TestCase):
    def test_auditor__includes_nothing_of_the_core(self):
        self.assertGreaterEqual(len(AUDITOR), 12)
        for path in AUDITOR:
            core = {f"worker/ledger/{name}" for name in CORE}
            found = {str(other.relative_to(ROOT)) for other in includes(path, set())}
            self.assertEqual(found & core, set(), path.name)
        # The way through the includes is followed, or nothing was shown.
        self.assertIn(ROOT / "worker" / "ledger" / "facts.h", includes(ROOT / "worker" / "ledger" / "posting.c", set()))

    def test_auditor__calls_nothing_of_the_core(self):
        for path in AUDITOR:
            self.assertEqual(CHOOSERS.findall(path.read_text()), [], path.name)


if __name__ == "__main__":
    unittest.main()
