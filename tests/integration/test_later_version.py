"""
What a later version wrote, and this one does not know, is not taken for something else [I14]: the records of such an order
wait, and a rule of such a kind stops the crediting. Both go on when they are understood.
"""

import unittest

from stack import Scene, shared, wait_until
from stack.events import BASE_RULES, delivered, event

LATER = "2026-03-01T11:00:00Z"
SAID = "an order's row holds a code that this version does not know"


class LaterVersionTest(unittest.TestCase):
    def scene(self, **options):
        scene = Scene(shared(), partitions=1, deferred_partitions=1, **options)
        scene.apply_rules(BASE_RULES)
        return scene

    def test_later_version__an_order_of_its_waits_and_takes_nobody_along(self):
        scene = self.scene(**{"rate.defer_ms": 300})
        row = "SELECT progress, outcome, points, order_credit_minor, rev FROM orders WHERE order_id = 'o-1'"
        with scene.worker() as worker:
            scene.produce([delivered("o-1", 10000)])
            scene.wait_settled(worker)
            scene.psql("UPDATE orders SET progress = 82, outcome = 82 WHERE order_id = 'o-1'")
            before = scene.psql(row)
            self.assertEqual(scene.psql("SELECT progress, outcome FROM order_state"), [("unknown:82", "unknown:82")])
            scene.produce([event("o-1", "in_transit", LATER), delivered("o-2", 500), event("o-1", "cancelled", LATER)])
            # Twice around, each of the two.
            metrics = worker.wait_until(lambda m: m.value("unknown_code_deferrals_total") >= 4, 20)
            self.assertEqual(metrics.value("degraded", what="unknown_codes"), 1)
            self.assertEqual(scene.psql(row), before)
            self.assertEqual(scene.psql("SELECT points FROM order_state WHERE order_id = 'o-2'"), [("5",)])
            self.assertEqual(worker.log(1000).count(SAID), 1)
            text = scene.command("explain", "o-1", check=1).stdout
            self.assertIn("unknown:82", text)
            self.assertIn("WRONG: progress is no status that this version knows", text)
            scene.psql("UPDATE orders SET progress = 80, outcome = 80 WHERE order_id = 'o-1'")
            scene.check(worker, later_version={"o-1"})
        self.assertEqual(scene.read(scene.dlq), [])

    def test_later_version__a_rule_of_its_stops_the_crediting(self):
        scene = self.scene()
        with scene.worker() as worker:
            worker.wait_until(lambda m: m.value("assigned_partitions") > 0, 20)
            scene.psql("ALTER TABLE rules DROP CONSTRAINT rules_kind_check; UPDATE rules SET kind = 3;"
                "UPDATE history SET rules_revision = rules_revision + 1")
            scene.produce([delivered("o-1", 10000)])
            worker.wait_until(lambda m: m.value("degraded", what="ledger") == 1, 20)
            wait_until(lambda: "is a code that this version does not know" in worker.log(1000), 20, worker.log)
            self.assertEqual(scene.psql("SELECT count(*) FROM orders"), [("0",)])
            scene.psql("UPDATE rules SET kind = 1")
            scene.check(worker)


if __name__ == "__main__":
    unittest.main()
