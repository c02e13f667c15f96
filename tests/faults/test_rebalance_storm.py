"""
The group takes partitions from a worker and gives them back at bad moments: again and again while commits are frequent,
while intake is paused, while a deferred record waits, while PostgreSQL is slower than the group is patient, and
without the worker's knowledge. Nobody writes on what is someone else's by now, and nothing is left out between two
owners [I1] [I2] [I8] [I12].
"""

import os
import random
import time
import unittest

import crash_matrix
from fault_case import FaultCase, limits
from stack import Session, wait_until
from stack.events import BASE_RULES, Expected, delivered, ledger_totals
from stack.load import Load, Vitals, scaled

PARTITIONS, DEFERRED = 6, 2
ALL = PARTITIONS + DEFERRED

# The shortest that a slow machine's heartbeats fit in; PostgreSQL's limit for idle transactions is below it.
IMPATIENT = {"kafka.session.timeout.ms": 3000, "kafka.heartbeat.interval.ms": 300, "pg.idle_timeout_ms": 2000}


class RebalanceCase(FaultCase):
    def scene(self, rules=BASE_RULES, **options):
        """Progress that goes back without a new owner is noted: whoever reads next would hide it soon."""
        scene = super().scene(rules, partitions=PARTITIONS, deferred_partitions=DEFERRED, **{**IMPATIENT, **options})
        scene.psql("""
            CREATE TABLE public.went_back (topic text, partition integer, old bigint, new bigint);
            CREATE FUNCTION note_back() RETURNS trigger SECURITY DEFINER LANGUAGE plpgsql AS $$
            BEGIN
                INSERT INTO public.went_back VALUES (NEW.topic, NEW.partition, OLD.next_offset, NEW.next_offset);
                RETURN NEW;
            END $$;
            CREATE TRIGGER note_back BEFORE UPDATE ON progress FOR EACH ROW
                WHEN (NEW.next_offset < OLD.next_offset AND NEW.claim = OLD.claim) EXECUTE FUNCTION note_back()""")
        return scene

    def verdict(self, scene, *workers, **more):
        super().verdict(scene, *workers, **more)
        self.assertEqual(scene.psql("SELECT * FROM public.went_back"), [])

    @staticmethod
    def wait_assigned(worker, least, most, limit_s=40):
        return worker.wait_until(lambda m: least <= m.value("assigned_partitions") <= most, limit_s,
            f"{worker.name} with {least} to {most} partitions")

    def wait_shared(self, *workers):
        """Until each has some of the partitions and all of them have all."""
        def counts():
            return [worker.metrics().value("assigned_partitions") for worker in workers]
        wait_until(lambda: min(now := counts()) > 0 and sum(now) == ALL, 40,
            lambda: f"partitions: {counts()}\n" + "\n".join(worker.log() for worker in workers))


class StormTest(RebalanceCase):
    """Three workers of one group, and what can happen to them, in turns."""

    TURNS = ("join", "freeze", "leave", "kill")

    def setUp(self):
        self.random = random.Random(1729)
        self.running, self.idle = [], []

    @staticmethod
    def generations(worker):
        return worker.metrics().value("rebalances_total", kind="assigned")

    def pick(self):
        return self.running[self.random.randrange(len(self.running))]

    def after_next_assignment(self, others, happening):
        """Does it and waits until one of the others was assigned anew because of it."""
        before = {worker: self.generations(worker) for worker in others}
        happening()
        wait_until(lambda: any(self.generations(worker) > before[worker] for worker in others), 40,
            lambda: "nothing was assigned anew\n" + "\n".join(worker.log() for worker in others))

    def join(self):
        if not self.idle:
            return
        fresh = self.idle.pop(0)
        self.after_next_assignment(self.running, fresh.start)
        self.running.append(fresh)

    def part(self, happening):
        """One that goes, by `happening`, as long as another one stays."""
        if len(self.running) < 2:
            self.join()
            return
        victim = self.pick()
        self.running.remove(victim)
        self.idle.append(victim)
        self.after_next_assignment(self.running, lambda: happening(victim))

    def leave(self):
        def stop(worker):
            # 69: it was frozen a moment ago, say, and could not settle what it had.
            self.assertIn(worker.stop(), (0, 69), worker.log())
        self.part(stop)

    def kill(self):
        self.part(lambda worker: worker.kill())

    def freeze(self):
        if len(self.running) < 2:
            self.join()
            return
        victim = self.pick()
        others = [worker for worker in self.running if worker is not victim]
        # An assignment of the turn before that comes late to one of them would be taken for that of the frozen one's
        # partitions, and it would be thawed before the group has missed it.
        self.wait_shared(*self.running)
        self.after_next_assignment(others, victim.freeze)
        self.after_next_assignment(others, victim.thaw)

    def test_storm__workers_join_leave_die_and_freeze_while_commits_are_frequent(self):
        rounds = scaled(10, 200)
        scene = self.scene(limits(per_second=500, burst=50), **{"commit.interval_ms": 10, "batch.max": 30,
            "inflight.max": 300, "rate.defer_ms": 300})
        load = Load(scene, batch=30, pause_s=0.1, poison=5, slow=20)
        # One lets go at once, so that records in flight are released; the others drain. The last has two members.
        self.idle = [scene.worker(consumers=consumers, **{"rebalance.drain_ms": drain_ms})
            for drain_ms, consumers in ((0, 1), (500, 1), (2000, 2))]
        for worker in self.idle:
            self.addCleanup(worker.process.end)
        self.running.append(self.idle.pop(0).start())
        self.wait_assigned(self.running[0], ALL, ALL)
        self.join()
        with load:
            for turn in range(rounds):
                getattr(self, self.TURNS[turn % len(self.TURNS)])()
                for worker in self.running:
                    self.assertEqual(worker.get("/livez")[0], 200)
                self.wait_credits(scene)
        while self.idle:
            self.join()
        self.wait_shared(*self.running)
        self.verdict(scene, *self.running, expected=load.expected, letters=load.poisoned)
        for worker in self.running:
            self.assertEqual(worker.stop(), 0, worker.log())


class BadMomentsTest(RebalanceCase):
    def test_bad_moments__paused_and_held_partitions_go_and_come_back(self):
        in_flight = 60
        scene = self.scene(limits(per_second=1, burst=1), **{"inflight.max": in_flight, "batch.max": 20,
            "rate.defer_ms": 6000, "rebalance.drain_ms": 300, "shutdown.timeout": 2, "pg.statement_timeout_ms": 300})
        slow = [delivered(f"slow-{i}", partner_id="slow") for i in range(6)]
        orders = [delivered(f"o-{i}", 100 + i, f"c{i % 9}") for i in range(600)]
        with scene.worker() as stayer, Session(scene) as session:
            self.wait_assigned(stayer, ALL, ALL)
            scene.produce(slow)
            stayer.wait_until(lambda m: m.value("records_settled_total", outcome="deferred") >= 4 and
                m.value("consumer_partition_paused", topic=scene.deferred) >= 1, 20, "a held partition")
            session.lock()
            scene.produce(orders)
            stayer.wait_until(lambda m: m.value("consumer_partition_paused", topic=scene.topic) == PARTITIONS and
                m.value("records_in_flight") >= in_flight, 20, "paused partitions")
            with Vitals(stayer) as vitals:
                with scene.worker() as guest:
                    self.wait_shared(stayer, guest)
                    guest.wait_until(lambda m: m.value("consumer_partition_paused", topic=scene.topic) > 0, 20)
                    # It can settle nothing of what it took, and says so.
                    self.assertEqual(guest.stop(), 69, guest.log())
                self.wait_assigned(stayer, ALL, ALL)
                metrics = stayer.wait_until(lambda m: m.value("records_in_flight") >= in_flight, 20)
                self.assertGreater(metrics.value("records_settled_total", outcome="released"), 0)
                self.assertEqual(metrics.value("records_settled_total", outcome="credited"),
                    len(slow) - metrics.value("records_settled_total", outcome="deferred"))
                session.unlock()
                wait_until(lambda: ledger_totals(scene)[0] >= len(orders), 30, stayer.log)
                scene.apply_rules({**BASE_RULES, "partners": [{"partner_id": "slow"}]})
                self.verdict(scene, stayer, expected=Expected(slow + orders))
            self.assert_alive(vitals, in_flight=in_flight)
            self.assertEqual(vitals.degraded - {"ledger"}, set())

    def test_bad_moments__a_database_slower_than_the_poll_interval_gets_nobody_kicked(self):
        interval_ms = 3000
        scene = self.scene(**{"kafka.max.poll.interval.ms": interval_ms, "workers": 1, "batch.max": 20,
            "inflight.max": 60})
        scene.slow_down(interval_ms / 1000 + 1)
        orders = [delivered(f"o-{i}", 100 + i) for i in range(900)]
        with scene.worker() as first, scene.worker() as second:
            self.wait_shared(first, second)
            before = [worker.metrics().by("rebalances_total", "kind") for worker in (first, second)]
            scene.produce(orders)
            with Vitals(first) as vitals, Vitals(second) as others:
                for worker in (first, second):
                    worker.wait_until(lambda m: m.value("consumer_partition_paused", topic=scene.topic) > 0, 20,
                        "a pause")
                end = time.monotonic() + 2.5 * interval_ms / 1000
                wait_until(lambda: time.monotonic() > end, 60, "time to pass")
                self.assertLess(ledger_totals(scene)[0], len(orders))
                scene.psql("SET lock_timeout = '30s'; ALTER TABLE orders DISABLE TRIGGER dawdle")
                scene.wait_settled(first, second)
                self.assertEqual([worker.metrics().by("rebalances_total", "kind") for worker in (first, second)],
                    before)
                self.verdict(scene, first, second, expected=Expected(orders))
            for each in (vitals, others):
                self.assert_alive(each, in_flight=60)
                self.assertEqual(each.degraded, set())

    def test_bad_moments__a_worker_whose_name_in_the_group_is_taken_leaves(self):
        """Static members of one name: the group goes with the younger, and the client of the older is done for good."""
        scene = self.scene(**{"kafka.group.instance.id": "the-only", "batch.max": 20, "inflight.max": 300,
            "shutdown.timeout": 2})
        load = Load(scene, batch=50, pause_s=0.1, poison=5)
        with scene.worker() as older, load:
            self.wait_assigned(older, ALL, ALL)
            self.wait_credits(scene, 100)
            with scene.worker() as younger:
                self.assertEqual(older.process.wait(30), 70, older.log())
                self.wait_assigned(younger, ALL, ALL)
                self.wait_credits(scene, 100)
                load.stop(None)
                self.verdict(scene, younger, expected=load.expected, letters=load.poisoned)

    def test_bad_moments__a_consumer_that_stands_still_is_replaced_and_changes_nothing(self):
        """Its other threads work on, its heartbeats too, until the poll interval is over: a zombie that writes."""
        scene = self.scene(limits(per_second=500, burst=50), **{"kafka.max.poll.interval.ms": 3000, "batch.max": 20,
            "workers": 1, "commit.interval_ms": 10, "rate.defer_ms": 300})
        load = Load(scene, poison=5, slow=20)
        held = os.path.join(scene.stack.folder, f"{scene.name}-held")
        zombie, successor = scene.worker(), scene.worker()
        zombie.program = crash_matrix.program()
        zombie.variables = {"DW_TEST_FAILPOINT": "after_poll:200:0:hold", "DW_TEST_FAILPOINT_ARM": held}
        with zombie, successor:
            self.wait_shared(zombie, successor)
            with Vitals(zombie) as vitals, Vitals(successor) as others:
                with open(held, "w", encoding="ascii"):
                    load.send(1000)
                zombie.wait_logged('msg="fail point"', 30)
                try:
                    self.wait_assigned(successor, ALL, ALL)
                    load.send(300)
                    scene.wait_settled(successor)
                    progress, committed = scene.progress(scene.topic), scene.committed()
                    posted = scene.psql("SELECT * FROM postings ORDER BY order_id, kind, seq")
                finally:
                    os.unlink(held)
                # What it settles before it hears of its loss is settled under a claim that is over.
                zombie.wait_until(lambda m: m.value("rebalances_total", kind="lost") > 0, 20, "a loss")
                self.wait_shared(zombie, successor)
                self.assertEqual(scene.psql("SELECT * FROM postings ORDER BY order_id, kind, seq"), posted)
                for before, after in ((progress, scene.progress(scene.topic)), (committed, scene.committed())):
                    self.assertEqual({p: offset for p, offset in after.items() if offset < before[p]}, {},
                        "offsets went back")
                load.send(300)
                self.verdict(scene, zombie, successor, expected=load.expected, letters=load.poisoned)
            for each in (vitals, others):
                self.assert_alive(each)

    def test_bad_moments__a_batch_that_is_committed_after_its_partitions_are_lost(self):
        scene = self.scene(**{"batch.max": 20, "inflight.max": 500, "workers": 1})
        load = Load(scene, poison=5)
        with Session(scene) as session, scene.worker() as zombie, scene.worker() as successor:
            self.wait_shared(zombie, successor)
            with session.locked():
                load.send(600)
                zombie.wait_until(lambda m: m.value("records_in_flight") > 100, 20)
                zombie.freeze()
                self.wait_assigned(successor, ALL, ALL)
                zombie.thaw()
                zombie.wait_until(lambda m: m.value("rebalances_total", kind="lost") > 0, 20, "a loss")
            zombie.wait_until(lambda m: m.value("records_settled_total", outcome="released") > 100, 20)
            self.wait_shared(zombie, successor)
            load.send(300)
            self.verdict(scene, zombie, successor, expected=load.expected, letters=load.poisoned)


if __name__ == "__main__":
    unittest.main()
