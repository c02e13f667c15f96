"""
PostgreSQL at its worst, through a proxy: a COMMIT whose fate nobody is told, deadlocks, locks of the silent, a server
that goes away in mid-assignment. Each order is credited once [I1] [I2], nothing good is dead-lettered [I10], and the
worker lives and stays in its group [I8] [I11].

tests/integration has the plain outages (stopped, crashed, frozen, read-only, no connection left, orders locked) in
test_outages.py. Failover is in test_failover.py, a full disk in test_full.py.
"""

import threading
import unittest

from outage_case import Load, OutageCase
from stack import wait_until
from stack.events import delivered, event
from stack.load import scaled
from stack.proxy import BATCH_COMMIT, KEEPER_COMMIT, Act

# A vanished server is given up after some 3 s instead of 25.
QUICK_TCP = {"tcp_user_timeout": 2000, "keepalives_idle": 1, "keepalives_interval": 1, "keepalives_count": 2}


def retried(worker):
    return worker.metrics().value("pg_transactions_total", result="retried")


class CommitTest(OutageCase):
    def interrupted(self, act, rounds, text=BATCH_COMMIT, hold_s=0, beside=None, parameters=None, **options):
        """COMMIT after COMMIT meets the act, with credits going on in between. `beside`: what is done each time."""
        scene = self.scene(**options)
        proxy = self.proxy(scene.postgres)
        with scene.worker(**self.through(proxy, scene, **(parameters or {}))) as worker:
            worker.wait_ready()
            load = Load(scene, pause_s=0.05)
            with self.fault(worker, {"ledger"}, {"postgresql"}), load:
                self.wait_credits(scene, 100)
                for _ in range(rounds):
                    before = retried(worker)
                    proxy.arm(text, act, hold_s=hold_s).wait(20)
                    if text is BATCH_COMMIT:
                        wait_until(lambda: retried(worker) > before, 20, "the batch to be tried again")
                    if beside:
                        beside(proxy)
                    self.wait_credits(scene)
            metrics = self.recovered(scene, worker, load)
            # Not one of them was taken for proof that the database lost something.
            self.assertEqual(metrics.value("pg_transactions_total", result="history_changed"), 0)
            self.assertEqual(worker.stop(), 0, worker.log())

    def test_commit__cut_before_it_arrives(self):
        self.interrupted(Act.CUT_BEFORE, scaled(6, 200))

    def test_commit__answer_lost(self):
        self.interrupted(Act.CUT_AT_ANSWER, scaled(6, 200))

    def test_commit__arrives_after_the_worker_was_cut(self):
        self.interrupted(Act.CUT_AND_HOLD, scaled(4, 100), hold_s=0.3)

    def test_commit__answer_later_than_the_worker_waits(self):
        # An answer is given up 5 s after the statement's own limit.
        self.interrupted(Act.HOLD_ANSWER, scaled(1, 20), hold_s=60, beside=lambda proxy: proxy.release(),
            **{"pg.statement_timeout_ms": 500})

    def test_commit__swallowed_by_a_black_hole(self):
        self.interrupted(Act.LOSE_BEFORE, scaled(1, 10), beside=lambda proxy: proxy.heal(), parameters=QUICK_TCP)

    def test_commit__answer_swallowed_by_a_black_hole(self):
        self.interrupted(Act.LOSE_AFTER, scaled(1, 20), parameters=QUICK_TCP)

    def test_commit__of_progress_cut_before_it_arrives(self):
        self.interrupted(Act.CUT_BEFORE, scaled(4, 100), KEEPER_COMMIT)

    def test_commit__of_progress_answer_lost(self):
        self.interrupted(Act.CUT_AT_ANSWER, scaled(4, 100), KEEPER_COMMIT)

    def test_commit__every_connection_cut_again_and_again(self):
        scene = self.scene()
        proxy = self.proxy(scene.postgres)
        with scene.worker(**self.through(proxy, scene)) as worker:
            worker.wait_ready()
            with self.fault(worker, {"ledger"}, {"postgresql"}), Load(scene, pause_s=0.05) as load:
                for turn in range(scaled(8, 400)):
                    self.wait_credits(scene)
                    proxy.cut(reset=turn % 2 == 0)
            self.recovered(scene, worker, load)

    def test_commit__everything_lost_in_a_black_hole(self):
        scene = self.scene(**{"pg.connect_timeout_ms": 2000})
        proxy = self.proxy(scene.postgres)
        with scene.worker(**self.through(proxy, scene, **QUICK_TCP)) as worker:
            worker.wait_ready()
            with self.fault(worker, {"ledger"}, {"postgresql"}), Load(scene, pause_s=0.05) as load:
                self.wait_credits(scene, 100)
                proxy.black_hole()
                worker.wait_until(lambda m: m.value("dependency_up", dependency="postgresql") == 0, 20, "it to be seen")
                proxy.heal()
                self.wait_credits(scene)
            self.recovered(scene, worker, load)


class HotLoad(Load):
    """The same few orders over and over, each time with another amount: every event moves balances."""

    ORDERS = 60

    def send(self, count):
        with self.lock:
            self.records += count
            at = f"2026-03-01T10:{self.records // 6000:02}:{self.records // 100 % 60:02}Z"
            events = [delivered(f"hot-{i % self.ORDERS}", self.random.randrange(100, 99999), f"c{i % 5}", f"p{i % 3}",
                timestamp=at) for i in range(self.ORDERS)]
            self.scene.produce(events)
            self.expected.add(events)


class LocksTest(OutageCase):
    def test_locks__taken_in_the_opposite_order_deadlock(self):
        # One, since a session looks for a cycle once a wait: two could be missed one after the other.
        scene = self.scene(workers=1)
        # The worker looks for a cycle late enough for it to be there, and the other session later: it is no victim.
        scene.psql(f"ALTER DATABASE {scene.postgres.database_of(scene.dsn)} SET deadlock_timeout = '500ms'")
        stop = threading.Event()
        other = self.session(scene)
        other.run("SET deadlock_timeout = '60s'")
        failed = []

        def run(sql):
            said = other.ask(sql)
            failed.extend(line for line in said if "ERROR" in line)
            return said

        def lock_the_other_way():
            while not stop.wait(0.05):
                run("BEGIN; SELECT count(*) FROM (SELECT 1 FROM balances FOR UPDATE) b")
                while "t" not in run("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted") and not stop.is_set():
                    pass
                run("SELECT count(*) FROM (SELECT 1 FROM orders ORDER BY order_id DESC FOR UPDATE) o; COMMIT")

        def deadlocks():
            return int(scene.psql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")[0][0])

        with scene.worker() as worker:
            worker.wait_ready()
            rival = threading.Thread(target=lock_the_other_way, daemon=True)
            with self.fault(worker, {"ledger"}), HotLoad(scene, pause_s=0.05) as load:
                wait_until(lambda: scene.psql("SELECT 1 FROM orders LIMIT 1"), 20, worker.log)
                rival.start()
                try:
                    wait_until(lambda: deadlocks() >= scaled(3, 100), scaled(60, 250),
                        lambda: f"{deadlocks()} deadlocks", every_s=0.2)
                finally:
                    stop.set()
                    rival.join()
            self.assertEqual(failed, [])
            metrics = self.recovered(scene, worker, load)
            self.assertGreaterEqual(metrics.value("pg_transactions_total", result="retried"), scaled(3, 100))

    def test_locks__of_a_frozen_worker_go_with_its_idle_timeout(self):
        scene = self.scene(**{"pg.idle_timeout_ms": 1000, "workers": 1})
        proxy = self.proxy(scene.postgres)
        load = Load(scene)
        with scene.worker(**self.through(proxy, scene)) as worker:
            worker.wait_ready()
            scene.produce([event("o1")])
            scene.wait_settled(worker)
            other = self.session(scene)
            # An order that changes between reading and writing is read once more, and locked.
            read = proxy.arm(b"\0read_", Act.HOLD_ANSWER, hold_s=60)  # by id, or by tid
            locked = proxy.arm(b"\0lock_orders\0", Act.HOLD_ANSWER, hold_s=60)
            load.expected.add([delivered("o1")])
            scene.produce([delivered("o1")])
            read.wait(20)
            wait_until(lambda: other.run("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND "
                "state <> 'idle' AND query ~ 'FROM orders' AND pid <> pg_backend_pid()"), 20, "the order to be read")
            other.run("UPDATE orders SET rev = rev + 1")
            proxy.release()
            locked.wait(20)
            wait_until(lambda: "could not" in "".join(other.ask("SELECT 1 FROM orders FOR UPDATE NOWAIT")), 20, "the lock")
            worker.freeze()
            wait_until(lambda: "could not" not in "".join(other.ask("SELECT 1 FROM orders FOR UPDATE NOWAIT")), 10,
                "the frozen worker's locks to go [I8]", every_s=0.1)
            worker.thaw()
            proxy.release()
            self.recovered(scene, worker, load)


class AssignmentTest(OutageCase):
    def test_assignment__waits_paused_until_postgresql_is_back(self):
        scene = self.scene()
        proxy = self.proxy(scene.postgres)
        load = Load(scene)
        load.send(500)
        armed = proxy.arm(b"INSERT INTO progress", Act.CUT_BEFORE, times=1_000_000)
        with scene.worker(**self.through(proxy, scene)) as worker:
            armed.wait(30)
            worker.wait_until(lambda m: m.value("dependency_up", dependency="kafka") == 1, 20, "Kafka to be seen")
            with self.fault(worker, down={"postgresql"}, degraded={"ledger", "waiting"}):
                self.stay_gone(scene, proxy, worker, load)
            self.recovered(scene, worker, load)

    def stay_gone(self, scene, proxy, worker, load):
        """PostgreSQL goes in mid-assignment, is missed, and comes back."""
        proxy.gone()
        worker.wait_until(lambda m: m.value("dependency_up", dependency="postgresql") == 0 and
            m.value("consumer_partition_paused") == 6, 20, "all partitions to be paused")
        wait_until(lambda: worker.get("/readyz")[0] == 503, 10, "/readyz at 503")
        load.send(500)
        metrics = worker.wait_until(lambda m: m.value("consumer_lag", topic=scene.topic) >= 1500, 20, "the lag")
        self.assertEqual(metrics.value("records_consumed_total"), 0)
        proxy.disarm()
        proxy.heal()
        scene.wait_settled(worker)


if __name__ == "__main__":
    unittest.main()
