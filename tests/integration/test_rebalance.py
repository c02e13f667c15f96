"""
Partitions come and go while events flow: nothing is lost, nothing is posted twice, and nobody works on what is someone
else's by now [I1] [I2] [I8] [I12].
"""

import threading
import time
import unittest

from stack import Scene, shared
from stack.events import BASE_RULES, Expected, delivered, ledger_totals
from stack.process import wait_until

PARTITIONS, DEFERRED = 6, 2
ALL = PARTITIONS + DEFERRED


def orders(first, count):
    return [delivered(f"o{number}", amount_minor=100 + number % 1000, customer_id=f"c{number % 50}",
        partner_id=f"p{number % 7}") for number in range(first, first + count)]


class Flow:
    """Sends orders, some at a time, until the block ends."""

    CHUNK = 200

    def __init__(self, scene):
        self.scene = scene
        self.expected = Expected()
        self.sent = 0
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.failure = None
        self.thread = threading.Thread(target=self.run)

    def send(self, count):
        """By whoever it is: an order is sent once."""
        with self.lock:
            events = orders(self.sent, count)
            self.scene.produce(events)
            self.expected.add(events)
            self.sent += count

    def run(self):
        try:
            while not self.ended.wait(0.1):
                self.send(self.CHUNK)
        except Exception as failure:  # told to the test, which joins
            self.failure = failure

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        if self.failure:
            raise self.failure


class RebalanceTest(unittest.TestCase):
    def scene(self, **options):
        scene = Scene(shared(), partitions=PARTITIONS, deferred_partitions=DEFERRED, **options)
        scene.apply_rules(BASE_RULES)
        return scene

    def wait_assigned(self, worker, least, most, limit_s=30):
        return worker.wait_until(lambda m: least <= m.value("assigned_partitions") <= most, limit_s,
            f"{worker.name} with {least} to {most} partitions")

    def wait_shared(self, one, other):
        """Both live, and have partitions at the same moment."""

        def has_some(metrics):
            return 1 <= metrics.value("assigned_partitions") <= ALL - 1

        one.wait_until(lambda metrics: has_some(metrics) and has_some(other.metrics()), 30, "partitions for both")

    def wait_no_lag(self, scene, *workers):
        for worker in workers:
            worker.wait_until(lambda m: m.is_zero("consumer_lag"), 20, "lag 0")

    def assert_owned_once(self, scene, *workers):
        for topic, count in ((scene.topic, PARTITIONS), (scene.deferred, DEFERRED)):
            owned = sorted(partition for worker in workers for partition in worker.partitions(topic))
            self.assertEqual(owned, list(range(count)), topic)

    def assert_exact(self, scene, expected):
        self.assertEqual(ledger_totals(scene), expected.totals())
        self.assertEqual(scene.dead_letters(), [])
        scene.check()

    def test_rebalance__workers_join_and_leave_while_events_flow(self):
        scene = self.scene()
        scene.slow_down(0.02)
        released = 0
        # The first one lets go at once, so that records in flight are released; the other drains.
        hasty = scene.worker(**{"rebalance.drain_ms": 0, "batch.max": 10, "workers": 1, "inflight.max": 1000})
        patient = scene.worker()
        with Flow(scene) as flow, hasty, patient:
            flow.send(4000)
            self.wait_shared(hasty, patient)
            for leaver, stayer in ((patient, hasty), (hasty, patient), (patient, hasty)):
                released += leaver.metrics().value("records_settled_total", outcome="released")
                self.assertEqual(leaver.stop(), 0, leaver.log())
                self.wait_assigned(stayer, ALL, ALL)
                leaver.start()
                self.wait_shared(leaver, stayer)
            released += hasty.metrics().value("records_settled_total", outcome="released")
            flow.ended.set()
            flow.thread.join()
            scene.wait_settled(hasty, patient)
            self.wait_no_lag(scene, hasty, patient)
            self.assert_owned_once(scene, hasty, patient)
            for worker in (hasty, patient):
                self.assertEqual(worker.metrics().value("records_in_flight"), 0)
        self.assertGreater(released, 0)
        self.assert_exact(scene, flow.expected)

    def test_rebalance__a_held_partition_changes_hands(self):
        # Of two partitions the first is class 0, the other one class 2: what waits for 16 s and longer.
        scene = self.scene(**{"rate.defer_ms": 1000})
        limited = {"partner_id": "slow", "per_second": 1, "burst": 1}
        scene.apply_rules({**BASE_RULES, "partners": [limited]})
        events = [delivered(f"s{number}", partner_id="slow") for number in range(24)]
        expected = Expected(events)
        with scene.worker() as first, scene.worker() as second:
            self.wait_shared(first, second)
            scene.produce(events)
            for worker in (first, second):
                worker.wait_until(lambda m: m.value("consumer_partition_paused", topic=scene.deferred) ==
                    len(m.series("consumer_partition_paused", topic=scene.deferred)) > 0, 10, "a held partition")
            wait_until(lambda: sum(worker.metrics().value("records_settled_total", outcome="deferred")
                for worker in (first, second)) >= 8, 4, "8 deferred records")
            started = time.monotonic()
            self.assertEqual(first.stop(), 0, first.log())
            self.assertLess(time.monotonic() - started, 4, "the head that waits was waited for")
            self.wait_assigned(second, ALL, ALL)
            self.assertGreaterEqual(second.metrics().value("records_settled_total", outcome="released"), 1)
            scene.apply_rules({"rules": [], "partners": [{"partner_id": "slow"}]})
            scene.wait_settled(second)
            self.wait_no_lag(scene, second)
            self.assertEqual(second.stop(), 0, second.log())
        self.assert_exact(scene, expected)

    def test_rebalance__new_partitions_are_read_from_their_start(self):
        scene = self.scene(**{"kafka.topic.metadata.refresh.interval.ms": 500})
        expected = Expected()
        with scene.worker() as worker:
            self.wait_assigned(worker, ALL, ALL)
            scene.stack.grow_topic(scene.topic, PARTITIONS + 3)
            for partition in range(PARTITIONS + 3):
                events = orders(partition * 100, 20)
                scene.produce(events, partition=partition)
                expected.add(events)
            self.wait_assigned(worker, ALL + 3, ALL + 3)
            scene.wait_settled(worker)
            self.wait_no_lag(scene, worker)
            self.assertEqual(scene.progress(scene.topic), {partition: 20 for partition in range(PARTITIONS + 3)})
            self.assertEqual(worker.stop(), 0, worker.log())
        self.assert_exact(scene, expected)

    def test_rebalance__a_frozen_worker_changes_nothing_when_it_wakes(self):
        scene = self.scene(**{"kafka.session.timeout.ms": 3000, "pg.idle_timeout_ms": 2000})
        slow = {"workers": 1, "batch.max": 10, "inflight.max": 1000}
        with scene.worker(**slow) as frozen, scene.worker() as successor:
            self.wait_shared(frozen, successor)
            scene.slow_down(0.02)
            flow = Flow(scene)
            flow.send(6000)
            frozen.wait_until(lambda m: m.value("records_settled_total") > 0 and m.value("records_in_flight") > 100, 20)
            frozen.freeze()
            scene.psql("DROP TRIGGER dawdle ON orders")
            self.wait_assigned(successor, ALL, ALL)
            scene.wait_settled(successor)
            self.assert_exact(scene, flow.expected)
            posted = scene.psql("SELECT * FROM postings ORDER BY order_id, kind, seq")
            progress, committed = scene.progress(scene.topic), scene.committed()
            frozen.thaw()
            self.wait_shared(frozen, successor)
            self.assertGreater(frozen.metrics().value("rebalances_total", kind="lost"), 0)
            self.assertGreater(frozen.metrics().value("records_settled_total", outcome="released"), 0)
            self.assertEqual(scene.psql("SELECT * FROM postings ORDER BY order_id, kind, seq"), posted)
            for before, after in ((progress, scene.progress(scene.topic)), (committed, scene.committed())):
                self.assertEqual({p: offset for p, offset in after.items() if offset < before.get(p, 0)}, {},
                    "offsets went back")
            consumed = frozen.metrics().value("records_consumed_total")
            flow.send(2000)
            scene.wait_settled(frozen, successor)
            self.assertGreater(frozen.metrics().value("records_consumed_total"), consumed)
            self.wait_no_lag(scene, frozen, successor)
            self.assert_owned_once(scene, frozen, successor)
            for worker in (frozen, successor):
                self.assertEqual(worker.stop(), 0, worker.log())
        self.assert_exact(scene, flow.expected)

    def test_rebalance__a_leaving_worker_hands_over_at_once(self):
        session_s = 30
        scene = self.scene(**{"kafka.session.timeout.ms": session_s * 1000})
        with scene.worker() as leaver, scene.worker() as stayer:
            self.wait_shared(leaver, stayer)
            with Flow(scene) as flow:
                leaver.wait_until(lambda m: m.value("records_settled_total") > 100, 20)
                started = time.monotonic()
                self.assertEqual(leaver.stop(), 0, leaver.log())
                self.wait_assigned(stayer, ALL, ALL)
                self.assertLess(time.monotonic() - started, session_s / 3)
            scene.wait_settled(stayer)
            self.wait_no_lag(scene, stayer)
            self.assertEqual(stayer.stop(), 0, stayer.log())
        self.assert_exact(scene, flow.expected)


if __name__ == "__main__":
    unittest.main()
