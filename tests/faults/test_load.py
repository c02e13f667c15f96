"""
Loads that no publisher means to send: repeats by the hundred, nothing but poison, one customer or one partner with all
of it. The ledger is exact, and nobody pays for somebody else [I2] [I8] [I9].
"""

import random
import unittest

from fault_case import FaultCase, limits
from stack import Record, wait_until
from stack.events import Expected, delivered, event, ledger_totals
from stack.load import Vitals, scaled
from stack.traffic import encode, offsets, shuffled

LATER, LAST = "2026-03-01T11:00:00Z", "2026-03-01T12:00:00Z"


def lives(count, name="o"):
    """Orders as they go: credited and left so, refunded in part, reversed. Every third is worth something else."""
    events = []
    for i in range(count):
        order, amount = f"{name}-{i}", 1000 + 7 * i
        events += [event(order, customer_id=f"c{i % 9}"), delivered(order, amount, f"c{i % 9}", f"p{i % 5}")]
        if i % 3 == 1:
            events.append(event(order, "picked_up", LATER, refunded_total_minor=300))
        if i % 3 == 2:
            events.append(event(order, "cancelled", LAST))
    return events


def lives_totals(count):
    worth = [1000 + 7 * i - (300 if i % 3 == 1 else 0) for i in range(count) if i % 3 != 2]
    return count, sum(amount // 100 for amount in worth), sum(worth)


class Totals:
    """Stands for Expected where orders have more than one event."""

    def __init__(self, totals):
        self.totals = lambda: totals


class LoadTest(FaultCase):
    def postings(self, scene):
        return scene.psql("SELECT * FROM postings ORDER BY order_id, kind, seq")

    # Repeats

    def duplicate_storm(self, **options):
        orders, repeats = 60, scaled(100, 1000)
        scene = self.scene(**options)
        events = shuffled(lives(orders), 4711, repeats)
        with scene.worker(workers=2) as worker, Vitals(worker) as vitals:
            scene.produce(events)
            self.verdict(scene, worker, expected=Totals(lives_totals(orders)))
            metrics = worker.metrics()
        self.assert_alive(vitals)
        self.assertEqual(vitals.degraded, set())
        self.assertEqual(metrics.value("records_consumed_total"), len(events))
        return metrics

    def test_load__duplicates_a_hundredfold_shuffled(self):
        metrics = self.duplicate_storm(**{"batch.max": 50})
        self.assertGreater(metrics.value("records_settled_total", outcome="duplicate"), 1000)

    def test_load__duplicates_a_hundredfold_without_redis(self):
        metrics = self.duplicate_storm(**{"redis.url": "", "batch.max": 50})
        # Those within one batch are seen without Redis; the others go to PostgreSQL, and post nothing.
        self.assertGreater(metrics.value("records_settled_total", outcome="stale") +
            metrics.value("records_settled_total", outcome="recorded"), 1000)

    def test_load__replay_from_the_start_posts_nothing(self):
        orders = scaled(300, 10000)
        scene = self.scene()
        expected = Totals(lives_totals(orders))
        scene.produce(lives(orders))
        scene.produce([event(f"o-{i}", customer_id="somebody-else") for i in range(50)] + [b"{"] * 50)
        with scene.worker() as worker:
            self.verdict(scene, worker, expected=expected, letters=100)
            self.assertEqual(worker.stop(), 0, worker.log())
        posted, ends = self.postings(scene), offsets(scene.stack.brokers, scene.topic)
        scene.stack.kafka.group_tool("--group", scene.group, "--topic", scene.topic, "--reset-offsets", "--to-earliest",
            "--execute")
        # What Redis remembers must not be why.
        scene.stack.flush_redis()
        with scene.worker() as worker, Vitals(worker) as vitals:
            worker.wait_until(lambda m: m.value("records_consumed_total") == sum(ends.values()), 30, "all to be read")
            self.verdict(scene, worker, expected=expected, letters=100)
            self.assertEqual(worker.metrics().value("records_settled_total", outcome="credited"), 0)
        self.assert_alive(vitals)
        self.assertEqual(self.postings(scene), posted)
        # Each letter once more, naming the same record.
        self.assertEqual(len(scene.read(scene.dlq)), 200)

    # Poison

    def test_load__nothing_but_poison(self):
        count = scaled(3000, 100000)
        scene = self.scene(partitions=3)
        chance = random.Random(3)
        good = encode(delivered("order", 1000))

        def bad(i):
            kind = i % 4
            if kind == 0:
                return None if i % 8 else b""
            if kind == 1:
                return good[:chance.randrange(1, len(good))]
            if kind == 2:
                return encode(event(f"o-{i}", chance.choice(["lost", "DELIVERED", "", "\u00e9"])))
            return encode(event(f"o-{i}", amount_minor=chance.choice([-1, 1.5, "10", 2 ** 53]), currency="EUR"))

        scene.send([Record(bad(i), f"k{i}".encode()) for i in range(count)])
        with scene.worker(**{"inflight.max": 500}) as worker, Vitals(worker) as vitals:
            self.verdict(scene, worker, expected=Expected(), letters=count)
            metrics = worker.metrics()
        self.assert_alive(vitals, in_flight=500)
        self.assertEqual(vitals.degraded, set())
        self.assertEqual(len(scene.read(scene.dlq)), count)
        self.assertEqual(metrics.value("dead_letters_total"), count)
        self.assertEqual(metrics.value("records_settled_total", outcome="dead_lettered"), count)

    def test_load__one_poison_in_a_batch_of_a_thousand(self):
        scene = self.scene(partitions=1)
        scene.psql("ALTER TABLE orders ADD CONSTRAINT no_poison CHECK (order_id <> 'poison')")
        good = [delivered(f"good-{i}", 500 + i) for i in range(999)]
        scene.produce(good[:600] + [delivered("poison")] + good[600:])
        with scene.worker(workers=1) as worker, Vitals(worker) as vitals:
            self.verdict(scene, worker, expected=Expected(good), letters=1)
            metrics = worker.metrics()
        self.assert_alive(vitals)
        letters = self.letters(scene)
        self.assertEqual(set(letters), {(0, 600)})
        self.assertEqual(letters[0, 600].header("dw_error_code"), "database_rejected")
        # Found by halving, and asked once more after others were committed: its neighbours were not tried one by one.
        self.assertLessEqual(metrics.value("pg_transactions_total", result="rejected"), 2 * 11)

    # Skew

    def test_load__one_partner_with_nine_tenths_of_the_load(self):
        count = scaled(400, 6000)
        scene = self.scene(limits(per_second=count // 2, burst=20), **{"rate.defer_ms": 300})
        slow = [delivered(f"slow-{i}", 100 + i, f"c{i % 50}", "slow") for i in range(count * 9 // 10)]
        others = [delivered(f"other-{i}", 100 + i, f"c{i % 50}", f"p{i % 7}") for i in range(count // 10)]
        with scene.worker() as worker, Vitals(worker) as vitals:
            worker.wait_logged("rules loaded")
            scene.produce(shuffled(slow + others, 9))

            def others_credited():
                return scene.psql("SELECT count(*) FROM order_state WHERE order_id LIKE 'other-%' AND points > 0")

            wait_until(lambda: others_credited() == [(str(len(others)),)], 30, worker.log)
            # They did not wait for the one whose orders are too many.
            self.assertLess(ledger_totals(scene)[0], count)
            self.verdict(scene, worker, expected=Expected(slow + others))
            metrics = worker.metrics()
        self.assert_alive(vitals)
        self.assertEqual(vitals.degraded, set())
        self.assertGreater(metrics.value("records_settled_total", outcome="deferred"), len(slow) // 2)

    def test_load__one_customer_with_ten_thousand_orders(self):
        count = scaled(10000, 100000)
        scene = self.scene(**{"batch.max": 100})
        orders = [delivered(f"o-{i}", 100 + i % 900, "the-one", f"p{i % 7}") for i in range(count)]
        with scene.worker(workers=2) as first, scene.worker(workers=2) as second:
            for worker in (first, second):
                worker.wait_until(lambda m: 0 < m.value("assigned_partitions") < 6, 30)
            with Vitals(first) as vitals, Vitals(second) as others:
                scene.produce(orders)
                self.verdict(scene, first, second, expected=Expected(orders))
            for worker in (first, second):
                metrics = worker.metrics()
                self.assertGreater(metrics.value("records_settled_total", outcome="credited"), 0)
                # Nobody waits for the one row in an order that another one contradicts.
                self.assertEqual(metrics.value("pg_transactions_total", result="retried"), 0)
        for each in (vitals, others):
            self.assert_alive(each)
            self.assertEqual(each.degraded, set())
        points = sum(order["amount_minor"] // 100 for order in orders)
        self.assertEqual(scene.psql("SELECT customer_id, points FROM customer_points"), [("the-one", str(points))])


if __name__ == "__main__":
    unittest.main()
