"""
Failover to a streaming copy that lacks the newest commits, acknowledged as they were: what is missing is credited
again, what is there is not, whatever Kafka's offsets and Redis' marks say [I1] [I2] [I3]. The copy has the system
identifier of its source and, once promoted, a timeline of its own.

Each test's cluster is the one promoted by the test before. The worker reaches PostgreSQL through a proxy, as it would
a name that follows the primary.
"""

import re
import unittest

from outage_case import Load, OutageCase
from stack import Stack, StackError, wait_until
from stack.events import ledger_totals
from stack.postgres import Standby
from stack.proxy import KEEPER_COMMIT, Act, Proxy

MARK = re.compile(r"dw1 ([0-9a-f]{32}) ([0-9a-f]{16}) \S+")


class FailoverTest(OutageCase):
    @classmethod
    def setUpClass(cls):
        cls.alone = Stack(kafka=None, redis=False)
        cls.addClassCleanup(cls.alone.close)
        cls.alone.__enter__()
        cls.primary = cls.alone.postgres

    def setUp(self):
        self.name = self.proxy(self.primary)
        self.replication = Proxy(self.primary.port)
        self.addCleanup(self.replication.close)
        self.scene_ = self.scene(postgres=self.primary)
        self.load = Load(self.scene_)
        self.standby = Standby(self.primary, f"standby-{self.alone.number()}", self.replication.port)
        self.alone.workers.append(self.standby)  # it ends with them
        self.standby.init()
        self.standby.start()

    def worker(self, **options):
        return self.scene_.worker(**self.through(self.name, self.scene_), **options)

    def position(self):
        return int(self.primary.psql("SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn", "postgres")[0][0])

    def fall_behind(self):
        """The copy has all there is, and gets no more."""
        position = self.position()
        wait_until(lambda: self.standby.replayed() >= position, 30, self.standby.process.tail)
        self.replication.black_hole()

    def fail_over(self, planned=False):
        """The primary dies, the copy takes over, and the name leads to it. Returns the orders that were lost."""
        had = ledger_totals(self.scene_)[0]
        self.name.refuse()
        if planned:
            self.primary.stop()
        else:
            self.name.cut()
            self.primary.crash()
        self.standby.promote()
        type(self).primary = self.standby
        self.scene_.move(self.standby)
        self.name.redirect(self.standby.port)
        lost = had - ledger_totals(self.scene_)[0]
        self.name.heal()
        return lost

    def settled(self, worker):
        self.scene_.wait_settled(worker)
        self.assertEqual(ledger_totals(self.scene_), self.load.expected.totals())

    def wait_exact(self, worker):
        """Waits for the totals alone: progress and offsets are what must not be believed here. Never above them."""

        def exact():
            if not worker.alive():
                raise StackError(f"{worker.name} left with {worker.process.exit_code}\n{worker.log()}")
            found, expected = ledger_totals(self.scene_), self.load.expected.totals()
            self.assertTrue(all(have <= wanted for have, wanted in zip(found, expected)), f"{found} above {expected}")
            return found == expected

        wait_until(exact, 60, lambda: f"{ledger_totals(self.scene_)} of {self.load.expected.totals()}\n{worker.log()}",
            every_s=0.1)

    def assert_new_history(self, old):
        """The epoch is another one, commits name it, and none claims what this server has not reached."""
        epoch = self.scene_.epoch()
        self.assertNotEqual(epoch, old)
        reached = self.position()
        for mark in self.scene_.marks().values():
            named, position = MARK.fullmatch(mark).groups()
            self.assertEqual(named, epoch)
            self.assertLessEqual(int(position, 16), reached)

    def test_failover__under_an_idle_worker(self):
        with self.worker() as worker:
            self.load.send(200)
            self.settled(worker)
            old = self.scene_.epoch()
            self.fall_behind()
            self.load.send(200)
            self.settled(worker)
            with self.fault(worker, {"ledger"}, {"postgresql"}):
                self.assertEqual(self.fail_over(), 200)
                self.wait_exact(worker)
            self.recovered(self.scene_, worker, self.load)
            self.assert_new_history(old)
            self.load.send(100)
            self.recovered(self.scene_, worker, self.load)

    def test_failover__under_load(self):
        with self.worker() as worker:
            worker.wait_ready()
            with self.fault(worker, {"ledger"}, {"postgresql"}), Load(self.scene_, pause_s=0.05) as self.load:
                self.wait_credits(self.scene_, 200)
                old = self.scene_.epoch()
                self.fall_behind()
                self.wait_credits(self.scene_, 200)
                self.assertGreater(self.fail_over(), 0)
                self.wait_credits(self.scene_, 200)
            self.wait_exact(worker)
            self.recovered(self.scene_, worker, self.load)
            self.assert_new_history(old)

    def test_failover__in_mid_assignment(self):
        scene = self.scene_
        with self.worker() as worker:
            self.load.send(200)
            self.settled(worker)
            old = scene.epoch()
            self.fall_behind()
            self.load.send(200)
            self.settled(worker)
            self.assertEqual(worker.stop(), 0, worker.log())
            # The claim of the partitions is committed, but neither is the worker told, nor does the copy have it.
            armed = self.name.arm(KEEPER_COMMIT, Act.CUT_AT_ANSWER)
            worker.start()
            armed.wait(30)
            self.name.refuse()
            worker.wait_until(lambda m: m.value("consumer_partition_paused") == 6, 20, "all partitions to be paused")
            self.assertEqual(worker.metrics().value("records_consumed_total"), 0)
            self.assertEqual(self.fail_over(), 200)
            self.wait_exact(worker)
            self.recovered(scene, worker, self.load)
            self.assert_new_history(old)

    def test_failover__across_a_restart_of_the_worker(self):
        with self.worker() as worker:
            self.load.send(200)
            self.settled(worker)
            old = self.scene_.epoch()
            self.fall_behind()
            self.load.send(200)
            self.settled(worker)
            self.assertEqual(worker.stop(), 0, worker.log())
            self.assertEqual(self.fail_over(), 200)
            worker.start()
            self.wait_exact(worker)
            self.recovered(self.scene_, worker, self.load)
            self.assert_new_history(old)

    def test_failover__to_a_copy_that_lacks_nothing(self):
        with self.worker() as worker:
            self.load.send(200)
            self.settled(worker)
            old = self.scene_.epoch()
            postings = self.scene_.psql("SELECT * FROM postings ORDER BY order_id, kind, seq")
            with self.fault(worker, {"ledger"}, {"postgresql"}):
                self.assertEqual(self.fail_over(planned=True), 0)
                self.load.send(200)
                self.wait_exact(worker)
            self.recovered(self.scene_, worker, self.load)
            # A new timeline is another history, although this one is whole: read again, and nothing posted twice.
            self.assert_new_history(old)
            now = set(self.scene_.psql("SELECT * FROM postings"))
            self.assertEqual([row for row in postings if row not in now], [])


if __name__ == "__main__":
    unittest.main()
