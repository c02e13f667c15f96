"""
PostgreSQL at its worst, through a proxy: a COMMIT whose fate nobody is told. Whatever became of it, each order is
credited once [I1] [I2], nothing good is dead-lettered [I10], and the worker lives and stays in its group [I8] [I11].

tests/integration has the plain outages (stopped, crashed, frozen, read-only, no connection left, orders locked) in
test_outages.py, and the restored older copy in test_history.py.
"""

import unittest

from outage_case import Load, OutageCase
from stack import shared, wait_until
from stack.events import delivered, event
from stack.load import scaled
from stack.proxy import BATCH_COMMIT, KEEPER_COMMIT, Act

# An answer is overdue this long after the statement's own timeout.
GRACE_S = 5


class CommitTest(OutageCase):
    def interrupted(self, act, rounds, text=BATCH_COMMIT, hold_s=0, degraded=(), parameters=None, beside=None, **options):
        """One COMMIT after another meets the act, credits going on in between. Returns scene, worker's log."""
        scene = self.scene(**options)
        proxy = self.proxy(scene.postgres)
        with scene.worker(**self.through(proxy, scene, **(parameters or {}))) as worker:
            worker.wait_ready()
            load = Load(scene, pause_s=0.05)
            with self.fault(worker, degraded), load:
                self.wait_credits(scene, 100)
                for _ in range(rounds):
                    armed = proxy.arm(text, act, hold_s=hold_s)
                    armed.wait(20)
                    if beside:
                        beside(proxy, worker)
                    self.wait_credits(scene)
            metrics = self.recovered(scene, worker, load)
            if text is BATCH_COMMIT:
                self.assertGreaterEqual(metrics.value("pg_transactions_total", result="retried"), rounds)
            self.assertEqual(metrics.value("pg_transactions_total", result="history_changed"), 0)
            self.assertEqual(worker.stop(), 0, worker.log())

    def test_commit__cut_before_it_arrives(self):
        self.interrupted(Act.CUT_BEFORE, scaled(10, 200))

    def test_commit__answer_lost(self):
        self.interrupted(Act.CUT_AT_ANSWER, scaled(10, 200))


class LocksTest(OutageCase):
    def test_locks__of_a_frozen_worker_go_with_its_idle_timeout(self):
        scene = self.scene(**{"pg.idle_timeout_ms": 1000, "workers": 1})
        proxy = self.proxy(scene.postgres)
        load = Load(scene)
        with scene.worker(**self.through(proxy, scene)) as worker:
            worker.wait_ready()
            scene.produce([event("o1")])
            scene.wait_settled(worker)
            other = self.session(scene)
            other.run("SET search_path = delivery")
            # An order that changes between reading and writing is read once more, and locked.
            read = proxy.arm(b"\0read_orders\0", Act.HOLD_ANSWER, hold_s=60)
            locked = proxy.arm(b"\0lock_orders\0", Act.HOLD_ANSWER, hold_s=60)
            load.expected.add([delivered("o1")])
            scene.produce([delivered("o1")])
            read.wait(20)
            wait_until(lambda: other.run("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND "
                "state <> 'idle' AND query ~ 'FROM orders' AND pid <> pg_backend_pid()"), 20, "the order to be read")
            other.run("UPDATE orders SET rev = rev + 1")
            proxy.release()
            locked.wait(20)
            wait_until(lambda: "could not" in other.run("SELECT 1 FROM orders FOR UPDATE NOWAIT"), 20, "the lock")
            worker.freeze()
            wait_until(lambda: "could not" not in other.run("SELECT 1 FROM orders FOR UPDATE NOWAIT"), 10,
                "the frozen worker's locks to go [I8]", every_s=0.1)
            worker.thaw()
            proxy.release()
            self.recovered(scene, worker, load)


if __name__ == "__main__":
    unittest.main()
