"""schemas/PUBLISHERS.md against a worker: what the page says of a wrong customer and of two that become one."""

import json
import os
import re
import unittest

from stack import ROOT, Scene, shared
from stack.events import BASE_RULES


def examples(heading):
    """The events of the accepted examples below a heading."""
    with open(os.path.join(ROOT, "schemas", "PUBLISHERS.md"), encoding="utf-8") as page:
        section = re.search(rf"^### {heading}\n(.*?)^##", page.read(), re.M | re.S)[1]
    return [json.loads(line) for text in re.findall(r"^```json accepted\n(.*?)^```$", section, re.M | re.S)
        for line in text.splitlines()]


class PublishersTest(unittest.TestCase):
    def setUp(self):
        self.scene = Scene(shared(), partitions=1)
        self.scene.apply_rules(BASE_RULES)

    def points(self):
        return dict(self.scene.psql("SELECT customer_id, points FROM customer_points"))

    def test_publishers__a_wrong_customer_is_cancelled_and_sent_under_a_new_id(self):
        wrong, cancelled, anew = examples("A wrong customer, partner or currency")
        with self.scene.worker() as worker:
            self.scene.produce([wrong])
            self.scene.check(worker)
            credited = self.points()
            self.assertEqual(list(credited), ["c-7"])
            self.assertGreater(int(credited["c-7"]), 0)
            # Another customer for the same order changes nothing, and comes back.
            self.scene.produce([{**wrong, "customer_id": "c-8", "timestamp": "2026-02-03T00:00:00Z"}])
            self.scene.check(worker)
            self.assertEqual(self.points(), credited)
            self.assertEqual([letter["headers"]["dw_error_code"] for letter in self.scene.dead_letters()],
                ["order_conflict"])
            self.scene.produce([cancelled, anew])
            self.scene.check(worker)
            self.assertEqual(self.points(), {"c-7": "0", "c-8": credited["c-7"]})

    def test_publishers__an_order_of_before_a_merge_keeps_its_customer(self):
        old = examples("A wrong customer, partner or currency")[0]
        returned = {"order_id": old["order_id"], "status": "returned", "timestamp": "2026-02-05T00:00:00Z"}
        with self.scene.worker() as worker:
            self.scene.produce([old])
            self.scene.check(worker)
            self.scene.produce([{**returned, "customer_id": "c-8"}])
            self.scene.check(worker)
            self.assertGreater(int(self.points()["c-7"]), 0)
            self.scene.produce([returned])
            self.scene.check(worker)
            self.assertEqual(self.points(), {"c-7": "0"})


if __name__ == "__main__":
    unittest.main()
