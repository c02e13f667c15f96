"""
The database as another history: restored from an older copy, or declared so. What it lost is credited again,
although Kafka's offsets and Redis' marks say that it was done; nothing is posted twice [I1] [I2] [I3].
"""

import re
import unittest

from stack import Scene, Stack, StackError, shared, wait_until
from stack.events import BASE_RULES, Expected, delivered, ledger_totals

MARK = re.compile(r"dw1 ([0-9a-f]{32}) ([0-9a-f]{16}) \S+")
PARTITIONS = 3


def orders(first, count):
    return [delivered(f"o{number}", amount_minor=100 + number % 1000, customer_id=f"c{number % 50}",
        partner_id=f"p{number % 7}") for number in range(first, first + count)]


class HistoryTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # A cluster of its own: a restore takes back what every database in it holds.
        cls.alone = Stack(kafka=None, redis=False)
        cls.addClassCleanup(cls.alone.close)
        cls.alone.__enter__()

    def setUp(self):
        self.postgres = self.alone.postgres
        self.scene = Scene(shared(), partitions=PARTITIONS, deferred_partitions=1, postgres=self.postgres)
        self.scene.apply_rules(BASE_RULES)
        self.expected = Expected()
        self.sent = 0

    def send(self, count):
        events = orders(self.sent, count)
        self.scene.produce(events)
        self.expected.add(events)
        self.sent += count

    def is_exact(self):
        """Whether every order that was sent is credited; not more, ever."""
        found, expected = ledger_totals(self.scene), self.expected.totals()
        self.assertTrue(all(have <= wanted for have, wanted in zip(found, expected)), f"{found} above {expected}")
        return found == expected

    def wait_exact(self, worker, limit_s=60):
        """Waits for the totals alone: progress and offsets are what must not be believed here."""

        def exact():
            if not worker.alive():
                raise StackError(f"{worker.name} left with {worker.process.exit_code}\n{worker.log()}")
            return self.is_exact()

        wait_until(exact, limit_s, lambda: f"{ledger_totals(self.scene)} of {self.expected.totals()}\n{worker.log()}",
            every_s=0.1)
        self.scene.wait_settled(worker)

    def assert_new_history(self, old_epoch):
        """The epoch is another one, commits name it, and none claims what this database has not reached."""
        epoch = self.scene.epoch()
        self.assertNotEqual(epoch, old_epoch)
        wal, = self.scene.psql("SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::int8")[0]
        wait_until(lambda: self.scene.committed() == self.scene.progress(self.scene.topic), 10,
            lambda: f"{self.scene.committed()}, {self.scene.progress(self.scene.topic)}")
        for mark in self.scene.marks().values():
            named, lsn = MARK.fullmatch(mark).groups()
            self.assertEqual(named, epoch)
            self.assertLessEqual(int(lsn, 16), int(wal))

    def assert_audit_is_clean(self):
        self.scene.check()
        code, text = self.scene.audit()
        self.assertEqual(code, 0, text)

    def marks_in_redis(self):
        keys = self.scene.stack.redis.command("KEYS", f"{self.scene.name}:*")
        return len(keys)

    @staticmethod
    def numbers(ranges):
        """The partitions of ["0-2,4", …]."""
        spans = [span.split("-") for text in ranges for span in text.split(",")]
        return {number for span in spans for number in range(int(span[0]), int(span[-1]) + 1)}

    def test_history__new_epoch_while_records_flow(self):
        self.scene.slow_down(0.02)
        with self.scene.worker(**{"batch.max": 50, "workers": 1}) as worker:
            self.send(500)
            self.scene.wait_settled(worker)
            self.assertTrue(self.is_exact())
            old, postings = self.scene.epoch(), self.scene.psql("SELECT * FROM postings ORDER BY order_id, kind, seq")
            self.send(2000)
            seen = worker.log_size()
            self.scene.command("migrate", "--new-epoch", check=0)
            said = re.compile(rf"partitions topic={self.scene.topic} restart=(\S+)")
            worker.wait_until(lambda _: self.numbers(said.findall(worker.log_since(seen))) == set(range(PARTITIONS)), 20,
                "a restart of each partition")
            self.wait_exact(worker)
            # Where all had been settled before, the old commit stands: only what comes now is committed anew.
            self.send(100)
            self.wait_exact(worker)
            self.assert_new_history(old)
            # Not even rewritten: the same rows, and those of the later orders.
            kept = self.scene.psql("SELECT * FROM postings ORDER BY order_id, kind, seq")
            self.assertEqual([row for row in kept if row in set(postings)], postings)
            self.assertEqual(worker.stop(), 0, worker.log())
        self.assert_audit_is_clean()

    def test_history__older_copy_under_an_idle_worker(self):
        with self.scene.worker() as worker:
            self.send(300)
            self.scene.wait_settled(worker)
            self.postgres.save("idle")
            self.send(300)
            self.scene.wait_settled(worker)
            self.assertTrue(self.is_exact())
            self.assertGreater(self.marks_in_redis(), 0)
            old = self.scene.epoch()
            self.postgres.restore("idle")
            self.wait_exact(worker)
            # The later half once more, and nothing else.
            self.assertEqual(worker.metrics().value("records_settled_total", outcome="credited"), 900)
            self.assert_new_history(old)
            self.send(100)
            self.wait_exact(worker)
            self.assertEqual(worker.stop(), 0, worker.log())
        self.assert_audit_is_clean()

    def test_history__older_copy_while_records_flow(self):
        self.scene.slow_down(0.02)
        with self.scene.worker(**{"batch.max": 20, "workers": 2, "inflight.max": 200}) as worker:
            self.send(300)
            self.scene.wait_settled(worker)
            self.postgres.save("flow")
            self.send(4000)
            wait_until(lambda: 500 < sum(self.scene.progress(self.scene.topic).values()), 30, worker.log)
            old = self.scene.epoch()
            worker.freeze()
            credited = ledger_totals(self.scene)[0]
            self.assertTrue(500 < credited < 4000, f"{credited} is not in the middle")
            self.postgres.restore("flow")
            self.assertLess(ledger_totals(self.scene)[0], credited, "nothing was lost")
            worker.thaw()
            self.wait_exact(worker)
            self.assert_new_history(old)
            self.assertEqual(worker.stop(), 0, worker.log())
        self.assert_audit_is_clean()

    def test_history__older_copy_while_the_worker_is_away(self):
        scene = self.scene
        worker = scene.worker()
        with worker:
            self.send(300)
            scene.wait_settled(worker)
            self.assertEqual(worker.stop(), 0, worker.log())
            self.postgres.save("away")
            worker.start()
            self.send(300)
            scene.wait_settled(worker)
            self.assertTrue(self.is_exact())
            self.assertEqual(worker.stop(), 0, worker.log())
            self.assertGreater(self.marks_in_redis(), 0)
            old = scene.epoch()
            self.postgres.restore("away")
            self.assertFalse(self.is_exact(), "nothing was lost")
            worker.start()
            self.wait_exact(worker)
            self.assert_new_history(old)
            self.assertEqual(worker.stop(), 0, worker.log())
        self.assert_audit_is_clean()


if __name__ == "__main__":
    unittest.main()
