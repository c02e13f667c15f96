"""
Each dependency away for some seconds, under load. Nothing is lost, nothing is credited twice, nothing good is
dead-lettered [I1] [I2] [I10]; intake pauses and memory does not grow [I8]; the worker lives, and says what it lacks
[I11].
"""

import contextlib
import subprocess
import unittest

from stack import Scene, shared, wait_until
from stack.events import BASE_RULES, ledger_totals
from stack.load import Load, Vitals, memory_bytes

IN_FLIGHT = 400
MIB = 1024 * 1024


class OutagesTest(unittest.TestCase):
    def scene(self, **options):
        scene = Scene(shared(), partitions=4, **{"inflight.max": IN_FLIGHT, "batch.max": 100, **options})
        scene.apply_rules(BASE_RULES)
        return scene

    def wait_credits(self, scene, more=1):
        """Until that many more orders are credited."""
        before = ledger_totals(scene)[0]
        wait_until(lambda: ledger_totals(scene)[0] >= before + more, 20, lambda: f"stuck at {before} orders")

    def wait_recovered(self, scene, worker, load):
        """Drained, exact, ready, and nothing degraded."""
        scene.wait_settled(worker)
        self.assertEqual(ledger_totals(scene), load.expected.totals())
        metrics = worker.wait_until(lambda m: m.value("degraded") == 0 and m.value("records_in_flight") == 0 and
            m.is_zero("consumer_lag"), 15, "the worker to be well again")
        worker.wait_ready(10)
        self.assertEqual(metrics.value("dead_letters_total"), 0)
        self.assertEqual(scene.read(scene.dlq), [])
        scene.check(worker)
        return metrics

    def assert_well_behaved(self, vitals):
        self.assertGreater(vitals.samples, 5)
        self.assertEqual(vitals.not_alive, [])
        self.assertEqual(vitals.unequal, [])
        # A consumer may overshoot by the record that it has in its hand.
        self.assertLessEqual(vitals.in_flight_max, IN_FLIGHT + 1)

    # PostgreSQL

    def ledger_outage(self, cut, mend, unready=False, **options):
        """`cut` and `mend` take the scene. Returns the worker's log."""
        scene = self.scene(**options)
        with scene.worker() as worker, contextlib.ExitStack() as undo:
            worker.wait_ready()
            with Load(scene) as load:
                self.wait_credits(scene, 200)
                with Vitals(worker) as vitals:
                    mended = undo.callback(mend, scene)
                    cut(scene)
                    worker.wait_until(lambda m: m.value("degraded", what="ledger") == 1, 10, "degraded{ledger}")
                    worker.wait_until(lambda m: m.value("records_in_flight") >= IN_FLIGHT, 10, "a full pipeline")
                    worker.wait_until(lambda m: m.value("consumer_partition_paused", topic=scene.topic) > 0, 10, "a pause")
                    if unready:
                        wait_until(lambda: worker.get("/readyz")[0] == 503, 10, "/readyz at 503")
                    full_bytes = memory_bytes(worker)
                    load.send(3000)
                    wait_until(lambda: worker.metrics().value("consumer_lag", topic=scene.topic) > 3000, 10, "lag")
                    self.assertLess(memory_bytes(worker) - full_bytes, 12 * MIB)
                    undo.pop_all()
                    mended(scene)
                    self.wait_credits(scene)
            self.assert_well_behaved(vitals)
            metrics = self.wait_recovered(scene, worker, load)
            # Nobody was sent away from the group meanwhile.
            self.assertEqual(metrics.value("rebalances_total", kind="lost"), 0)
            self.assertEqual(metrics.value("rebalances_total", kind="assigned"), 1)
            return worker.log(10000)

    def restart_postgres_after(self, stop):
        """`stop` ends the server; mending starts it, if it does not run."""
        postgres = shared().postgres
        return {"cut": lambda scene: stop(), "mend": lambda scene: postgres.process.alive() or postgres.start()}

    def test_outages__postgresql_stopped(self):
        log = self.ledger_outage(**self.restart_postgres_after(shared().stop_postgres), unready=True)
        self.assertEqual(log.count("the ledger does not take a batch"), log.count("the ledger takes batches again"))

    def test_outages__postgresql_crashes(self):
        self.ledger_outage(**self.restart_postgres_after(shared().crash_postgres), unready=True)

    def test_outages__postgresql_frozen(self):
        """Seen although no statement is answered: one try lasts as long as the statement timeout."""
        postgres = shared().postgres
        log = self.ledger_outage(lambda scene: postgres.freeze(), lambda scene: postgres.thaw())
        self.assertRegex(log, r"the ledger does not take a batch.* seconds=5\.\d+ ")

    def test_outages__postgresql_read_only(self):
        def set_read_only(change):
            shared().postgres.psql(f"ALTER SYSTEM {change}; SELECT pg_reload_conf()", "postgres")

        self.ledger_outage(lambda scene: set_read_only("SET default_transaction_read_only = on"),
            lambda scene: set_read_only("RESET default_transaction_read_only"), unready=True)

    def test_outages__postgresql_has_no_connection_left(self):
        postgres = shared().postgres

        def limit(count):
            postgres.psql(f"ALTER ROLE {postgres.ROLE} CONNECTION LIMIT {count}", "postgres")

        def cut(scene):
            limit(0)
            scene.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                f"WHERE usename = '{postgres.ROLE}' AND datname = current_database()")

        self.ledger_outage(cut, lambda scene: limit(-1), unready=True)

    def test_outages__orders_locked_by_another_session(self):
        holder = []

        def lock(scene):
            postgres = scene.stack.postgres
            holder.append(subprocess.Popen(
                ["psql", "-X", "-q", "-t", "-h", "127.0.0.1", "-p", str(postgres.port), "-U", "postgres",
                    "-d", scene.dsn.rpartition("/")[2]],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            holder[0].stdin.write(b"BEGIN; LOCK TABLE delivery.orders IN ACCESS EXCLUSIVE MODE; SELECT 'held';\n")
            holder[0].stdin.flush()
            self.assertEqual(holder[0].stdout.readline().strip(), b"held")

        def unlock(_):
            if holder:
                holder[0].communicate(b"ROLLBACK;\n", timeout=10)

        self.ledger_outage(lock, unlock, **{"pg.statement_timeout_ms": 500})

    # Redis

    def dedup_outage(self, cut, mend, degraded=True, **options):
        """Credits go on while Redis is away, and are right."""
        scene = self.scene(**{"redis.timeout_ms": 100, **options})
        with scene.worker() as worker, contextlib.ExitStack() as undo:
            worker.wait_ready()
            with Load(scene) as load, Vitals(worker) as vitals:
                self.wait_credits(scene, 200)
                mended = undo.callback(mend)
                cut()
                if degraded:
                    worker.wait_until(lambda m: m.value("degraded", what="dedup") == 1, 10, "degraded{dedup}")
                    self.wait_credits(scene, 500)
                    self.assertEqual(worker.metrics().value("degraded", what="dedup"), 1)
                    self.assertEqual(worker.metrics().value("dependency_up", dependency="redis"), 0)
                undo.pop_all()
                mended()
                worker.wait_until(lambda m: m.value("degraded", what="dedup") == 0, 15, "degraded{dedup} to end")
                self.wait_credits(scene, 200)
            self.assert_well_behaved(vitals)
            self.assertEqual(vitals.ready - {200}, set())
            self.wait_recovered(scene, worker, load)

    def test_outages__redis_killed_and_started_empty(self):
        redis = shared().redis
        self.dedup_outage(redis.kill, lambda: redis.process.alive() or redis.start())

    def test_outages__redis_frozen(self):
        redis = shared().redis
        self.dedup_outage(redis.freeze, redis.thaw)

    def test_outages__redis_refuses_writes(self):
        redis = shared().redis
        self.dedup_outage(lambda: redis.command("CONFIG", "SET", "maxmemory", "1"),
            lambda: redis.command("CONFIG", "SET", "maxmemory", "0"))

    def test_outages__redis_flushed(self):
        self.dedup_outage(shared().flush_redis, shared().flush_redis, degraded=False)

    # Kafka

    def test_outages__kafka_killed_and_started(self):
        scene = self.scene()
        kafka = scene.stack.kafka
        before, after = Load(scene, "before"), Load(scene, "after")
        self.addCleanup(lambda: kafka.process.alive() or kafka.start())
        late = scene.worker()
        self.addCleanup(late.process.end)
        with scene.worker() as worker:
            worker.wait_ready()
            with before:
                self.wait_credits(scene, 200)
            before.send(2000)
            with Vitals(worker) as vitals:
                kafka.kill()
                worker.wait_until(lambda m: m.value("dependency_up", dependency="kafka") == 0, 15, "kafka to be down")
                wait_until(lambda: worker.get("/readyz")[0] == 503, 10, "/readyz at 503")
                late.start()
                wait_until(lambda: "for=kafka" in late.log(), 20, lambda: f"it does not wait\n{late.log()}")
                kafka.start()
                with after:
                    self.wait_credits(scene, 200)
            self.assert_well_behaved(vitals)
            late.wait_ready()
            scene.wait_settled(worker, late)
            before.expected.orders.update(after.expected.orders)
            self.assertEqual(ledger_totals(scene), before.expected.totals())
            for one in (worker, late):
                one.wait_ready()
                metrics = one.wait_until(lambda m: m.value("degraded") == 0 and m.value("records_in_flight") == 0, 10)
                self.assertEqual(metrics.value("dead_letters_total"), 0)
            scene.check(worker, late)
            self.assertEqual([worker.stop(), late.stop()], [0, 0])
        self.assertEqual(scene.read(scene.dlq), [])

    def test_outages__kafka_killed_is_seen_by_a_worker_without_partitions(self):
        scene = Scene(shared(), partitions=1, deferred_partitions=1)
        kafka = scene.stack.kafka
        self.addCleanup(lambda: kafka.process.alive() or kafka.start())
        with scene.worker() as first, scene.worker() as second, scene.worker() as third:
            workers = (first, second, third)
            for worker in workers:
                worker.wait_ready()

            def find_idle():
                counts = [worker.metrics().value("assigned_partitions") for worker in workers]
                return workers[counts.index(0)] if sorted(counts) == [0, 1, 1] else None

            idle = wait_until(find_idle, 30, "two of three workers to have a partition each")
            kafka.kill()
            # It did see it while it still had partitions to ask about, or it sees it now.
            wait_until(lambda: idle.get("/readyz")[0] == 503, 10, lambda: f"ready without brokers\n{idle.log()}")
            self.assertEqual(idle.metrics().value("dependency_up", dependency="kafka"), 0)
            kafka.start()
            for worker in workers:
                worker.wait_ready(40)

    def test_outages__a_quota_is_none(self):
        """Throttled, a broker answers late: that is said of it, and not that it is away."""
        client = f"throttled-{shared().number()}"
        scene = self.scene(**{"kafka.client.id": client})
        kafka = scene.stack.kafka
        load = Load(scene)
        with scene.worker() as worker:
            worker.wait_ready()
            kafka.set_quota(client, ("--add-config", "consumer_byte_rate=6500"))
            load.send(300)
            worker.wait_until(lambda m: m.value("degraded", what="kafka_quota") == 1, 60, "the quota to be seen")
            with Vitals(worker) as vitals:
                load.send(50)  # looked at by the lag's own connection, which is then throttled, too
                scene.wait_settled(worker)
            self.assertEqual((vitals.down, vitals.ready), (set(), {200}), worker.log())
            kafka.set_quota(client, ("--delete-config", "consumer_byte_rate"))
            worker.wait_logged("kafka throttles this client no more", 60)
            self.wait_recovered(scene, worker, load)


if __name__ == "__main__":
    unittest.main()
