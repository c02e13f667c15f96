"""
How `run` ends [I12]: what was taken is settled and committed, the group is left, and the next worker reads on from
there; when that can't be had in time, it leaves all the same and says so with its exit code.
"""

import fcntl
import os
import signal
import time
import unittest

from stack import Scene, shared, wait_until
from stack.events import BASE_RULES, ledger_totals
from stack.load import Load
from stack.process import accepts, free_port
from stack.worker import binary, environment

CLOSED = "127.0.0.1:1"  # nobody listens there

# Who leaves at once does not leave the group: its successor waits for the session to run out.
SHORT_SESSION = {"kafka.session.timeout.ms": 2000, "kafka.heartbeat.interval.ms": 300, "pg.idle_timeout_ms": 1500}


class ShutdownTest(unittest.TestCase):
    def scene(self, migrate=True, **options):
        scene = Scene(shared(), partitions=4, migrate=migrate, **options)
        if migrate:
            scene.apply_rules(BASE_RULES)
        return scene

    def timed_stop(self, worker, number=signal.SIGTERM):
        """(exit code, seconds)"""
        started = time.monotonic()
        code = worker.stop(number)
        return code, time.monotonic() - started

    def wait_said(self, worker, words, limit_s=20):
        wait_until(lambda: words in worker.log(10000), limit_s, lambda: f"{words!r} not said\n{worker.log()}",
            every_s=0.01)

    def test_shutdown__sigterm_under_load_settles_and_commits_what_was_taken(self):
        # Without marks in Redis a record that is read twice would show as such.
        scene = self.scene(**{"dedup.ttl": 0, "batch.max": 20, "inflight.max": 500})
        with Load(scene, pause_s=0) as load:
            with scene.worker() as first:
                wait_until(lambda: ledger_totals(scene)[0] > 500, 20, first.log)
                load.send(3000)
                code, seconds = self.timed_stop(first)
                self.assertEqual(code, 0, first.log())
                self.assertLess(seconds, 5)
                self.assertNotIn("unsettled", first.log(1000))
            progress = scene.progress(scene.topic)
            self.assertEqual(scene.committed(), progress)
            self.assertEqual(scene.committed(scene.deferred), scene.progress(scene.deferred))
        # Its effects are those of the records below, no more and no less.
        below = {record.key.decode() for record in scene.read() if record.offset < progress.get(record.partition, 0)}
        self.assertEqual({row[0] for row in scene.psql("SELECT order_id FROM order_state")}, below)
        self.assertLess(sum(progress.values()), load.records, "the load was over: nothing was cut short")
        with scene.worker() as second:
            for partition, offset in progress.items():
                # Where Kafka's commit were another offset, it would stand behind it.
                second.wait_logged(rf"(?m)topic={scene.topic} start=(\S+,)?{partition}@{offset}(,\S+)?$")
            scene.wait_settled(second)
            metrics = second.wait_until(lambda m: m.value("records_in_flight") == 0, 10)
            self.assertEqual(metrics.value("records_consumed_total"), load.records - sum(progress.values()))
            self.assertEqual(metrics.value("records_settled_total", outcome="released"), 0)
            self.assertEqual(second.stop(), 0)
        self.assertEqual(ledger_totals(scene), load.expected.totals())

    def test_shutdown__idle_leaves_at_once_and_frees_the_group(self):
        scene = self.scene(**{"kafka.session.timeout.ms": 30000})
        load = Load(scene)
        load.send(50)
        for number in (signal.SIGTERM, signal.SIGINT):
            with scene.worker() as worker:
                # Had the one before not left the group, its session would have to run out first.
                worker.wait_until(lambda m: m.value("assigned_partitions") == 6, 10)
                scene.wait_settled(worker)
                code, seconds = self.timed_stop(worker, number)
                self.assertEqual(code, 0, worker.log())
                self.assertLess(seconds, 2)
        self.assertEqual(ledger_totals(scene), load.expected.totals())

    def test_shutdown__a_deferred_head_does_not_hold_up(self):
        scene = self.scene(**{"rate.partner.per_second": 1, "rate.partner.burst": 1, "rate.defer_ms": 4000})
        load = Load(scene)
        with scene.worker() as worker:
            load.send(8)
            worker.wait_until(lambda m: m.value("records_settled_total", outcome="deferred") > 0 and
                m.value("consumer_partition_paused", topic=scene.deferred) > 0, 20)
            code, seconds = self.timed_stop(worker)
            self.assertEqual(code, 0, worker.log())
            self.assertLess(seconds, 3)
        self.assertEqual(scene.committed(scene.deferred), scene.progress(scene.deferred))
        with scene.worker(**{"rate.partner.per_second": 0}) as worker:
            scene.wait_settled(worker)
        self.assertEqual(ledger_totals(scene), load.expected.totals())

    # PostgreSQL frozen

    def freeze_in_flight(self, scene, worker, load):
        """Records are in flight and nothing settles."""
        wait_until(lambda: ledger_totals(scene)[0] > 200, 20, worker.log)
        postgres = scene.stack.postgres
        self.addCleanup(postgres.thaw)
        postgres.freeze()
        load.send(500)
        worker.wait_until(lambda m: m.value("records_in_flight") >= 100, 10)

    def assert_nothing_lost(self, scene, load):
        scene.stack.postgres.thaw()
        with scene.worker() as worker:
            scene.wait_settled(worker)
            self.assertEqual(worker.metrics().value("dead_letters_total"), 0)
        self.assertEqual(ledger_totals(scene), load.expected.totals())

    def test_shutdown__with_postgresql_frozen_it_leaves_in_time(self):
        scene = self.scene(**{"shutdown.timeout": "3s", "batch.max": 50})
        load = Load(scene)
        load.send(300)
        with scene.worker() as worker:
            self.freeze_in_flight(scene, worker, load)
            code, seconds = self.timed_stop(worker)
            self.assertEqual(code, 69, worker.log())
            self.assertLess(seconds, 3.5)
            self.assertIn("unsettled", worker.log())
        self.assert_nothing_lost(scene, load)

    def test_shutdown__a_second_signal_leaves_at_once(self):
        for first, second in [(signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)]:
            with self.subTest(first=first, second=second):
                scene = self.scene(**{"shutdown.timeout": "60s", "batch.max": 50, **SHORT_SESSION})
                load = Load(scene)
                load.send(300)
                with scene.worker() as worker:
                    self.freeze_in_flight(scene, worker, load)
                    worker.process.send(first)
                    self.wait_said(worker, "msg=leaving")
                    self.assertTrue(worker.alive())
                    self.assertEqual(worker.get("/livez")[0], 200)
                    self.assertEqual(worker.get("/readyz")[0], 503)
                    code, seconds = self.timed_stop(worker, second)
                    self.assertEqual(code, 69, worker.log())
                    self.assertLess(seconds, 1)
                self.assert_nothing_lost(scene, load)

    def test_shutdown__with_nothing_to_do_and_postgresql_frozen(self):
        """Threads that wait for the server just then do not hold it up, and nothing is unsettled: a clean leave."""
        for again in (False, True):
            with self.subTest(second_signal=again):
                scene = self.scene(**{"shutdown.timeout": "60s" if again else "3s", **SHORT_SESSION})
                postgres = scene.stack.postgres
                self.addCleanup(postgres.thaw)
                with scene.worker() as worker:
                    worker.wait_until(lambda m: m.value("assigned_partitions") == 6, 30)
                    postgres.freeze()
                    wait_until(lambda: self.unread_bytes(postgres.port), 20, "the worker asked nothing")
                    if again:
                        worker.process.send(signal.SIGTERM)
                        self.wait_said(worker, "all is settled and committed")
                    code, seconds = self.timed_stop(worker)
                    self.assertEqual(code, 0, worker.log())
                    self.assertLess(seconds, 2 if again else 4)
                    self.assertIn("left before all was closed", worker.log())
                postgres.thaw()

    @staticmethod
    def unread_bytes(port):
        """What lies in the sockets of that server, by /proc."""
        with open("/proc/net/tcp", encoding="ascii") as table:
            rows = [line.split() for line in table][1:]
        return sum(int(row[4].partition(":")[2], 16) for row in rows if int(row[1].rpartition(":")[2], 16) == port)

    def test_shutdown__sighup_is_no_reason_to_leave(self):
        scene = self.scene()
        load = Load(scene)
        with scene.worker() as worker:
            worker.process.send(signal.SIGHUP)  # before there is anything to leave
            worker.wait_ready()
            worker.process.send(signal.SIGHUP)
            self.wait_said(worker, 'msg="SIGHUP taken"')
            load.send(50)
            scene.wait_settled(worker)
            self.assertEqual(worker.stop(), 0)
        self.assertEqual(ledger_totals(scene), load.expected.totals())

    def test_shutdown__closed_descriptors_are_nobody_elses(self):
        scene = self.scene()
        port = free_port()
        worker = scene.worker(**{"http.listen": f"127.0.0.1:{port}"})
        self.addCleanup(worker.process.end)
        worker.process.launch(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", binary(), "run"],
            env=environment(worker.options))
        worker.port = port
        wait_until(lambda: accepts(port), 20, "no HTTP")
        worker.wait_ready()
        for fd in range(3):
            self.assertEqual(os.readlink(f"/proc/{worker.pid}/fd/{fd}"), "/dev/null")
        self.assertEqual(worker.stop(), 0)

    # a log that nobody reads

    def start_unread(self, scene, name, **options):
        """A worker whose stderr is a pipe of a page that is full from the start. Returns it and the reader's end."""
        path = os.path.join(scene.stack.folder, f"{scene.name}-{name}.fifo")
        os.mkfifo(path)
        reader = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
        try:
            while True:
                os.write(reader, b"x" * 64)
        except BlockingIOError:
            pass
        port = free_port()
        worker = scene.worker(**{"http.listen": f"127.0.0.1:{port}", **options})
        self.addCleanup(worker.process.end)
        worker.process.launch(["sh", "-c", 'exec "$@" 2>' + path, "sh", binary(), "run"], env=environment(worker.options))
        worker.port = port
        wait_until(lambda: accepts(port), 20, f"{name} does not serve HTTP")
        return worker, reader

    def fill_log(self, worker):
        """Has it say something, until there is no room for that."""
        def dropped(metrics):
            worker.process.send(signal.SIGHUP)
            return metrics.value("log_lines_dropped_total") > 0
        worker.wait_until(dropped, 30, "a line that is dropped")

    def read_log(self, reader, words):
        """Reads on until `words` have come. Returns what was read."""
        heard = bytearray()
        def look():
            try:
                heard.extend(os.read(reader, 65536))
            except BlockingIOError:
                pass
            return words.encode() in heard
        wait_until(look, 20, lambda: f"no {words!r} in {heard.decode()}", every_s=0.005)
        return heard.decode()

    def test_shutdown__a_stalled_stderr_holds_up_neither_work_nor_the_leave(self):
        scene = Scene(shared(), partitions=16, **{"log.level": "debug", "log.buffer": "4k"})
        scene.apply_rules(BASE_RULES)
        load = Load(scene)
        load.send(300)
        worker, reader = self.start_unread(scene, "unread")
        worker.wait_ready()
        scene.wait_settled(worker)
        self.assertEqual(ledger_totals(scene), load.expected.totals())
        self.fill_log(worker)
        code, seconds = self.timed_stop(worker)
        self.assertEqual(code, 0)
        self.assertLess(seconds, 4)

        # And one that stalls for a while is told what it has missed, and the rest.
        worker, reader = self.start_unread(scene, "late")
        worker.wait_ready()
        self.fill_log(worker)
        self.read_log(reader, "log lines dropped: stderr did not take them")
        worker.process.send(signal.SIGTERM)
        self.read_log(reader, "msg=left")
        self.assertEqual(worker.process.wait(10), 0)

    # at the start

    def test_shutdown__while_waiting_for_a_dependency(self):
        scene = self.scene()
        for options, words in [
                ({"pg.dsn": f"postgresql://x@{CLOSED}/x"}, "for=postgresql"),
                ({"kafka.topic": f"{scene.name}-none"}, "for=kafka"),
                ({"kafka.brokers": CLOSED}, "for=kafka")]:
            for number in (signal.SIGTERM, signal.SIGINT):
                with self.subTest(options=options, number=number), scene.worker(**options) as worker:
                    self.wait_said(worker, words)
                    code, seconds = self.timed_stop(worker, number)
                    self.assertEqual(code, 0, worker.log())
                    # At most one question to a broker that does not answer.
                    self.assertLess(seconds, 4)

    def test_shutdown__while_a_connection_to_postgresql_hangs(self):
        scene = self.scene(**{"pg.connect_timeout_ms": 2000, "shutdown.timeout": "3s"})
        self.addCleanup(scene.stack.postgres.thaw)
        scene.stack.postgres.freeze()
        with scene.worker() as worker:
            code, seconds = self.timed_stop(worker)
            self.assertEqual(code, 0, worker.log())
            self.assertLess(seconds, 3.5)


if __name__ == "__main__":
    unittest.main()
