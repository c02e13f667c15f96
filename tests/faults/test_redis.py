"""
Redis at its worst: slow, silent, gone, full of refusals, forgetful, lying. It costs work and never a credit [I3];
credits go on meanwhile, limits fall back to the worker's own, both say so as `degraded`, and the worker stays ready.

tests/integration/test_outages.py has the plain ones: killed and started empty, frozen, out of memory, flushed.
"""

import contextlib
import threading
import unittest

from outage_case import Load, OutageCase
from stack import shared, wait_until
from stack.events import BASE_RULES, ledger_totals
from stack.load import scaled

# A limit that is asked for and never reached.
RULES = {**BASE_RULES, "partners": [{"partner_id": "p1", "per_second": 1_000_000, "burst": 1_000_000}]}
DEGRADED = {"dedup", "rate_limit"}
LEDGER_TABLES = "orders, posted, balances, progress, witnesses"


class RedisCase(OutageCase):
    def setUp(self):
        self.redis = shared().redis
        self.link = self.proxy(self.redis)
        self.scene_ = self.scene(rules=RULES)

    def worker(self, **options):
        return self.scene_.worker(**{"redis.url": f"redis://127.0.0.1:{self.link.port}/0", **options})

    def well(self, worker, load):
        metrics = self.recovered(self.scene_, worker, load)
        self.assertEqual(metrics.value("records_settled_total", outcome="deferred"), 0)
        return metrics

    def marks(self):
        return self.redis.command("KEYS", f"{self.scene_.name}:done:*")


class OutageTest(RedisCase):
    def outage(self, cut, mend, lasting=True):
        """`cut` makes it unusable until `mend`, or with lasting=False for a time of its own."""
        with self.worker() as worker, contextlib.ExitStack() as undo:
            worker.wait_ready()
            with self.fault(worker, DEGRADED, {"redis"}, always_ready=True), Load(self.scene_, pause_s=0.05) as load:
                self.wait_credits(self.scene_, 100)
                mended = undo.callback(mend)
                cut()
                for what in DEGRADED:
                    self.wait_degraded(worker, what)
                self.wait_credits(self.scene_, 200)
                if lasting:
                    metrics = worker.metrics()
                    self.assertEqual(metrics.value("dependency_up", dependency="redis"), 0)
                    self.assertEqual({what for what in DEGRADED if metrics.value("degraded", what=what)}, DEGRADED)
                undo.pop_all()
                mended()
                for what in DEGRADED:
                    self.wait_degraded(worker, what, 0)
                self.wait_credits(self.scene_, 100)
            self.assertGreater(len(self.marks()), 0)
            self.well(worker, load)

    def test_redis__answers_5_s_late(self):
        self.outage(lambda: self.link.delay(to_client_s=5), self.link.heal)

    def test_redis__hears_5_s_late(self):
        self.outage(lambda: self.link.delay(to_server_s=5), self.link.heal)

    def test_redis__pauses_its_clients(self):
        self.outage(lambda: self.redis.command("CLIENT", "PAUSE", 3000, "ALL"), lambda: None, lasting=False)

    def test_redis__gone(self):
        self.outage(self.link.gone, self.link.heal)

    def test_redis__in_a_black_hole(self):
        self.outage(self.link.black_hole, self.link.heal)

    def test_redis__connections_of_old_in_a_black_hole(self):
        # New ones work, so it is over by itself.
        self.outage(lambda: self.link.black_hole(new=False), self.link.heal, lasting=False)

    def test_redis__became_a_read_only_replica(self):
        self.outage(lambda: self.redis.command("REPLICAOF", "127.0.0.1", "1"),
            lambda: self.redis.command("REPLICAOF", "NO", "ONE"))

    def test_redis__took_the_right_to_write(self):
        self.outage(lambda: self.redis.command("ACL", "SETUSER", "default", "-@write"),
            lambda: self.redis.command("ACL", "SETUSER", "default", "+@all"))

    def test_redis__is_another_kind_of_server(self):
        def turn_to(server):
            self.link.redirect(server.port)
            self.link.cut()

        self.outage(lambda: turn_to(shared().postgres), lambda: turn_to(self.redis))

    def test_redis__connections_cut_again_and_again(self):
        with self.worker() as worker:
            worker.wait_ready()
            with self.fault(worker, DEGRADED, {"redis"}, always_ready=True), Load(self.scene_, pause_s=0.05) as load:
                for turn in range(scaled(10, 500)):
                    self.wait_credits(self.scene_)
                    self.link.cut(reset=turn % 2 == 0)
            self.well(worker, load)


class LiesTest(RedisCase):
    def test_redis__forgets_everything_between_batches(self):
        stop = threading.Event()
        rounds = []

        def forget():
            while not stop.wait(0.02):
                self.redis.command("FLUSHALL")
                self.redis.command("SCRIPT", "FLUSH")
                rounds.append(1)

        self.redis.command("CONFIG", "RESETSTAT")
        with self.worker() as worker:
            worker.wait_ready()
            flushing = threading.Thread(target=forget, daemon=True)
            with self.fault(worker, always_ready=True), Load(self.scene_, pause_s=0.05) as load:
                self.wait_credits(self.scene_, 100)
                flushing.start()
                try:
                    self.wait_credits(self.scene_, scaled(500, 100_000))
                finally:
                    stop.set()
                    flushing.join()
            metrics = self.well(worker, load)
        self.assertGreater(len(rounds), 5)
        self.assertIn("errorstat_NOSCRIPT", self.redis.command("INFO", "errorstats"))
        self.assertEqual(metrics.value("redis_requests_total", result="failed"), 0)

    def test_redis__has_strings_where_sets_and_buckets_belong(self):
        load = Load(self.scene_)
        with self.worker() as worker:
            worker.wait_ready()
            with self.fault(worker, always_ready=True):
                load.send(200)
                self.scene_.wait_settled(worker)
                keys = self.redis.command("KEYS", f"{self.scene_.name}:*")
                self.assertGreater(len(keys), 1)
                for key in keys:
                    self.redis.command("SET", key, "nothing of the kind")
                for _ in range(5):
                    load.send(200)
                    self.scene_.wait_settled(worker)
            metrics = self.well(worker, load)
            # It was met, and was no outage.
            self.assertGreater(metrics.value("redis_requests_total", op="lookup", result="failed"), 0)
            self.assertEqual(metrics.value("degraded"), 0)

    def test_redis__has_the_marks_of_another_epoch(self):
        scene, load = self.scene_, Load(self.scene_)
        with self.worker() as worker:
            worker.wait_ready()
            load.send(300)
            scene.wait_settled(worker)
            # Within the epoch they count: what is sent again is known.
            known = worker.metrics().value("records_settled_total", outcome="duplicate")
            scene.produce(list(load.expected.orders.values()))
            scene.wait_settled(worker)
            self.assertGreaterEqual(worker.metrics().value("records_settled_total", outcome="duplicate") - known, 300)
            self.assertEqual(worker.stop(), 0, worker.log())
            # The database forgets all but the key of the marks.
            marks = self.marks()
            scene.psql(f"TRUNCATE {LEDGER_TABLES}")
            scene.command("migrate", "--new-epoch", check=0)
            self.assertEqual(ledger_totals(scene)[0], 0)
            worker.start()
            worker.wait_ready()
            with self.fault(worker, always_ready=True):
                wait_until(lambda: ledger_totals(scene) == load.expected.totals(), 30,
                    lambda: f"{ledger_totals(scene)} of {load.expected.totals()}\n{worker.log()}")
            self.well(worker, load)
        self.assertLessEqual(set(marks), set(self.marks()), "the old marks are there still")


if __name__ == "__main__":
    unittest.main()
