"""
The ledger against real input: 58,788 events of 14,940 orders, whose totals are known. However they are sent and
whatever happens meanwhile, the result is the same to the last unit [I2] [I5].
"""

import lzma
import os
import random
import unittest

from stack import Scene, Session, StackError, data_folder, shared, wait_until
from stack.traffic import offsets

FILE = "olist_2016-09_2017-06.ndjson.xz"
RULES = {"rules": [{"id": "base", "kind": "per_amount", "points": 1, "per_minor": 100}]}
EVENTS = 58788
TOTALS = {"points": 1987886, "credit_minor": 199744389, "customers": 13855, "partners": 942, "credited_orders": 14199}
PARTITIONS = 6

# So slow that the middle of the file can be met.
SLOW = {"workers": 1, "batch.max": 100, "inflight.max": 1000}

# So short that nobody has to wait long for the partitions of a dead worker.
SHORT_SESSION = {"kafka.session.timeout.ms": 3000, "pg.idle_timeout_ms": 2000}


def load():
    """The events, or None where the data is not."""
    folder = data_folder()
    path = os.path.join(folder, FILE) if folder else None
    if not path or not os.path.exists(path):
        return None
    with lzma.open(path, "rb") as lines:
        return lines.read().splitlines()


def totals(scene):
    """What the views say. Who was credited and reversed stays at 0 and is not counted."""
    (row,) = scene.psql("""
        SELECT (SELECT sum(points) FROM customer_points), (SELECT sum(credit_minor) FROM partner_credit),
               (SELECT count(*) FROM customer_points WHERE points <> 0),
               (SELECT count(DISTINCT partner_id) FROM partner_credit WHERE credit_minor <> 0),
               (SELECT count(*) FROM order_state WHERE order_credit_minor > 0)""")
    return dict(zip(TOTALS, map(int, row)))


class OlistTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.events = load()
        if cls.events is None:
            raise unittest.SkipTest(f"{FILE} is not here: DW_TEST_DATA names its folder")

    def scene(self, **options):
        scene = Scene(shared(), partitions=PARTITIONS, **options)
        scene.apply_rules(RULES)
        return scene

    def wait_settled(self, scene, *workers, limit_s=60):
        """Like the scene's, with a scrape at every look, which checks conservation [I7]."""
        ends = offsets(scene.stack.brokers, scene.topic)

        def settled():
            for worker in workers:
                if not worker.alive():
                    raise StackError(f"{worker.name} left with {worker.process.exit_code}\n{worker.log()}")
                worker.metrics()
            return scene.progress(scene.topic) == ends

        wait_until(settled, limit_s, lambda: f"at {scene.progress(scene.topic)} of {ends}\n{workers[0].log()}")

    def assert_result(self, scene):
        scene.check_ledger()
        self.assertEqual(totals(scene), TOTALS)
        for unit, debits, credits in scene.psql(
                "SELECT unit, sum(debits), sum(credits) FROM account_balances GROUP BY unit"):
            self.assertEqual(debits, credits, unit)
        self.assertEqual(scene.dead_letters(), [])
        code, text = scene.audit(from_kafka=False)
        self.assertEqual(code, 0, text)
        code, text = scene.audit(from_kafka=True)
        self.assertEqual(code, 0, text)

    def run_through(self, events, **options):
        scene = self.scene()
        scene.produce(events, compression="lz4")
        with Session(scene) as other:
            # One scrape is amid the work, however quick the machine: the rest may be over before anybody looks.
            other.lock()
            with scene.worker(**options) as worker:
                worker.wait_until(lambda m: m.value("records_in_flight") > 0, 30)
                other.unlock()
                self.wait_settled(scene, worker)
                metrics = worker.wait_until(lambda m: m.value("records_in_flight") == 0, 10)
                self.assertEqual(metrics.value("records_consumed_total"), len(events))
                self.assertEqual(metrics.value("dead_letters_total"), 0)
                self.assertEqual(worker.stop(), 0, worker.log())
        self.assert_result(scene)

    def settled_share(self, scene, sent):
        return sum(scene.progress(scene.topic).values()) / sent

    def freeze_in_the_middle(self, scene, worker, sent):
        """Stops the worker where it is when more than a tenth is settled, and makes sure that much is left."""
        wait_until(lambda: self.settled_share(scene, sent) >= 0.15, 60, worker.log)
        worker.freeze()
        share = self.settled_share(scene, sent)
        self.assertGreater(share, 0.1)
        self.assertLess(share, 0.9)

    def test_olist__sent_once(self):
        self.assertEqual(len(self.events), EVENTS)
        self.run_through(self.events)

    def test_olist__three_consumers_and_workers_in_one_process(self):
        self.run_through(self.events, consumers=3, workers=3)

    def test_olist__sent_twice(self):
        self.run_through(self.events + self.events)

    def test_olist__shuffled(self):
        events = list(self.events)
        random.Random(20170601).shuffle(events)
        self.run_through(events)

    def test_olist__one_of_two_workers_killed_in_the_middle(self):
        scene = self.scene(**SHORT_SESSION)
        with scene.worker(**SLOW) as victim, scene.worker() as survivor:
            # Balanced before there is work, so that both are at it when one dies.
            for worker in (victim, survivor):
                worker.wait_until(lambda m: 0 < m.value("assigned_partitions") < PARTITIONS, 30)
            scene.produce(self.events, compression="lz4")
            self.freeze_in_the_middle(scene, victim, EVENTS)
            self.assertGreater(survivor.metrics().value("records_consumed_total"), 0)
            victim.kill()
            ends, progress = offsets(scene.stack.brokers, scene.topic), scene.progress(scene.topic)
            orphans = set(ends) - survivor.partitions(scene.topic)
            left = sum(ends[partition] - progress.get(partition, 0) for partition in orphans)
            self.assertGreater(left, 0, "the victim left nothing to take over")
            self.wait_settled(scene, survivor)
            self.assertEqual(survivor.stop(), 0, survivor.log())
        self.assert_result(scene)

    def test_olist__redis_flushed_in_the_middle(self):
        scene = self.scene()
        events = self.events + self.events
        scene.produce(events, compression="lz4")
        with scene.worker(**SLOW) as worker:
            self.freeze_in_the_middle(scene, worker, len(events))
            self.assertGreater(scene.stack.redis.command("DBSIZE"), 0)
            scene.stack.flush_redis()
            worker.thaw()
            self.wait_settled(scene, worker)
            self.assertEqual(worker.stop(), 0, worker.log())
        self.assert_result(scene)


if __name__ == "__main__":
    unittest.main()
