"""
Three brokers: the group's coordinator dies or moves, replicas are too few for copies that must not be lost. What one
broker cannot show [I1] [I10].
"""

import unittest

from fault_case import FaultCase, limits
from stack import Record, Stack, shared, wait_until
from stack.events import Expected, delivered, ledger_totals
from stack.load import Load, Vitals
from stack.traffic import encode


class ClusterTest(FaultCase):
    @classmethod
    def setUpClass(cls):
        shared()  # of which PostgreSQL and Redis are used
        cls.stack = Stack("cluster", redis=False, postgres=False).__enter__()
        cls.addClassCleanup(cls.stack.close)

    def tearDown(self):
        self.stack.kafka.start()

    def on_cluster(self, *arguments, **options):
        return self.scene(*arguments, stack=self.stack, **{"redis.url": shared().redis_url, **options})

    def wait_coordinator(self, scene, wanted):
        """Until `wanted` is true of the node that coordinates the group. Returns it."""
        found = [None]

        def look():
            found[0] = self.stack.kafka.coordinator(scene.group)
            return found[0] > 0 and wanted(found[0])

        wait_until(look, 60, lambda: f"the coordinator is {found[0]}", every_s=0.2)
        return found[0]

    def test_cluster__the_coordinator_dies_and_comes_back(self):
        scene = self.on_cluster(limits(per_second=500, burst=20), partitions=3, **{"rate.defer_ms": 300,
            "commit.interval_ms": 10, "batch.max": 50})
        nodes = self.stack.kafka.nodes
        load = Load(scene, batch=30, pause_s=0.2, poison=5, slow=20)
        with scene.worker() as first, scene.worker() as second:
            for worker in (first, second):
                worker.wait_until(lambda m: 0 < m.value("assigned_partitions") < 5, 60)
            with Vitals(first) as vitals, Vitals(second) as others, load:
                self.wait_credits(scene, 60)
                old = self.wait_coordinator(scene, lambda node: True)
                nodes[old].kill()
                self.wait_coordinator(scene, lambda node: node != old)
                # In Kafka, not only in PostgreSQL: the new coordinator takes commits.
                before = scene.committed()
                wait_until(lambda: all(scene.committed().get(p, 0) > offset for p, offset in before.items()), 40,
                    lambda: f"{scene.committed()} after {before}\n{first.log()}{second.log()}")
                # And back to the preferred one, while all live.
                nodes[old].start()
                self.wait_coordinator(scene, lambda node: node == old)
                before = scene.committed()
                wait_until(lambda: all(scene.committed().get(p, 0) > offset for p, offset in before.items()), 40,
                    lambda: f"{scene.committed()} after {before}\n{first.log()}{second.log()}")
            self.verdict(scene, first, second, expected=load.expected, letters=load.poisoned, sent_again=True)
            for worker in (first, second):
                self.assertEqual(worker.stop(), 0, worker.log())
        for each in (vitals, others):
            self.assert_alive(each)
            self.assertEqual(each.degraded - {"dead_letters", "deferred"}, set())

    def test_cluster__copies_wait_for_replicas_that_are_too_few(self):
        scene = self.on_cluster(partitions=2, **{"kafka.producer.message.timeout.ms": 1000})
        kafka = self.stack.kafka
        dlq = f"{scene.name}-safe"
        self.stack.create_topic(dlq, 1, {"min.insync.replicas": 3})
        good = [delivered(f"o-{i}", 100 + i) for i in range(200)]
        with scene.worker(**{"kafka.dlq_topic": dlq}) as worker:
            worker.wait_ready(60)
            scene.produce(good[:20], partition=0)
            scene.wait_settled(worker)
            coordinator = self.wait_coordinator(scene, lambda node: True)
            victim = next(node for node in kafka.nodes if node != coordinator)
            kafka.nodes[victim].kill()
            wait_until(lambda: len(kafka.leaders(dlq)[0][1]) == 2 and kafka.leaders(dlq)[0][0] > 0, 40,
                lambda: f"replicas in sync: {kafka.leaders(dlq)}", every_s=0.2)
            with Vitals(worker) as vitals:
                scene.send([Record(b"{", b"k", partition=0)] + [Record(encode(one), partition=i % 2)
                    for i, one in enumerate(good[20:])])
                self.wait_degraded(worker, "dead_letters")
                wait_until(lambda: ledger_totals(scene)[0] == len(good), 40, worker.log)
                wait_until(lambda: scene.committed() == {0: 20, 1: 90}, 20, lambda: f"{scene.committed()}")
                metrics = worker.metrics()
                self.assertEqual((metrics.value("records_in_flight"), metrics.value("dead_letters_total")), (1, 0))
                self.assertEqual(self.letters(scene, dlq), {})
                kafka.nodes[victim].start()
                # While replicas come back a reader may see it later than the worker, to whom it is acknowledged; and one
                # that has seen it may see it no more, of a leader that does not know yet how far the others are.
                wait_until(lambda: len(kafka.leaders(dlq)[0][1]) == 3 and set(self.letters(scene, dlq)) == {(0, 20)}, 40,
                    worker.log)
                scene.check(worker, dlq=dlq)
                self.assert_well(scene, worker)
            self.assertEqual(worker.stop(), 0, worker.log())
        self.assert_alive(vitals)
        self.assertEqual(vitals.degraded, {"dead_letters"})
        self.assertEqual(ledger_totals(scene), Expected(good).totals())


if __name__ == "__main__":
    unittest.main()
