"""
Names are not identity: progress belongs to a log, a commit to whoever made it, and what was found lost stays found
[I13]. With the brokers and the tools that operators use.
"""

import re
import subprocess
import unittest

from stack import Scene, StackError, shared, wait_until
from stack.events import BASE_RULES, Expected, delivered, ledger_totals


def orders(first, count):
    return [delivered(f"o{number}", amount_minor=100 * number + 7, customer_id=f"c{number % 5}")
        for number in range(first, first + count)]


class IdentityTest(unittest.TestCase):
    def setUp(self):
        self.scene = Scene(shared(), partitions=1, deferred_partitions=1)
        self.scene.apply_rules(BASE_RULES)
        self.expected = Expected()

    def produce(self, events, counts=True):
        self.scene.produce(events, partition=0)
        if counts:
            self.expected.add(events)

    def settle(self, worker):
        """Until all that counts is credited, and its progress is written and committed."""
        wait_until(lambda: ledger_totals(self.scene) == self.expected.totals(), 30,
            lambda: f"{ledger_totals(self.scene)} of {self.expected.totals()}\n{worker.log()}")
        self.scene.wait_settled(worker)

    def run_once(self, *arguments):
        with self.scene.worker(*arguments) as worker:
            self.settle(worker)
            self.assertEqual(worker.stop(), 0, worker.log())

    def make_topic_anew(self):
        scene = self.scene
        scene.stack.delete_topic(scene.topic)

        def created():
            try:
                scene.stack.create_topic(scene.topic, 1)
            except StackError:
                return False  # the deletion is still under way
            return True

        wait_until(created, 20, "the topic made anew")

    def assert_lost(self, worker, first, end, credited):
        worker.wait_logged(rf"offsets lost.*\btopic={re.escape(self.scene.topic)} partition=0 from={first} to={end}\b")
        worker.wait_until(lambda m: m.value("degraded", what="offset_lost") == 1, 10, "degraded{offset_lost}")
        self.assertEqual(ledger_totals(self.scene), credited)
        self.assertEqual(self.scene.psql("SELECT from_offset, to_offset FROM lost_offsets WHERE applied_at IS NULL"),
            [(str(first), str(end))])

    # Whose log it is

    def test_identity__a_topic_made_anew_with_more_records_stops_loudly(self):
        """Where the first log had 10 records and the second has 25, reading on at 10 would skip 10 orders."""
        self.produce(orders(0, 10))
        self.run_once()
        self.make_topic_anew()
        before = ledger_totals(self.scene)
        self.produce(orders(100, 25))
        with self.scene.worker() as worker:
            self.assert_lost(worker, 0, 10, before)
            self.assertEqual(worker.stop(), 0, worker.log())
        # Also a log that goes on as if it were the first one, and a process that has read nothing of it.
        self.produce(orders(200, 5))
        with self.scene.worker() as worker:
            self.assert_lost(worker, 0, 10, before)
            # Accepted by another process, the holder of the partition goes on by itself.
            refused = self.scene.command("run", "--accept-loss", f"{self.scene.topic}:0:0-9")
            self.assertEqual(refused.returncode, 78, refused.stderr)
            self.scene.psql("UPDATE lost_offsets SET accepted_at = now()")
            self.settle(worker)
            worker.wait_until(lambda m: m.value("degraded", what="offset_lost") == 0, 10, "over")
            self.assertEqual(worker.stop(), 0, worker.log())
        self.run_once()
        self.assertEqual(self.scene.progress(self.scene.topic)[0], 30)

    def test_identity__a_log_that_shrinks_under_a_running_worker_stops_loudly(self):
        self.produce(orders(0, 10))
        with self.scene.worker(**{"lag.interval_ms": 500}) as worker:
            self.settle(worker)
            before = ledger_totals(self.scene)
            self.make_topic_anew()
            self.produce(orders(100, 4))
            worker.wait_logged(r"offsets lost.*\bpartition=0 from=0 to=10\b", limit_s=60)
            self.assertEqual(ledger_totals(self.scene), before)
            worker.stop()

    def test_identity__a_topic_made_anew_under_a_running_worker_stops_loudly(self):
        """The second log has grown past what was read of the first before anybody looks at its end."""
        self.produce(orders(0, 10))
        with self.scene.worker(**{"lag.interval_ms": 500}) as worker:
            self.settle(worker)
            worker.freeze()
            self.make_topic_anew()
            self.produce(orders(100, 25))
            worker.thaw()
            worker.wait_logged(r"offsets lost.*\bpartition=0 from=0 to=25\b", limit_s=60)
            worker.stop()
        # The ten that were skipped are there: another log is read from its start.
        self.run_once("--accept-loss", f"{self.scene.topic}:0:0-25")

    def test_identity__a_found_loss_survives_restarts_and_a_log_that_grows(self):
        self.produce(orders(0, 10))
        self.run_once()
        self.make_topic_anew()
        before = ledger_totals(self.scene)
        self.produce(orders(100, 5))
        with self.scene.worker() as worker:
            self.assert_lost(worker, 0, 10, before)
            self.assertEqual(worker.stop(), 0, worker.log())
        self.produce(orders(105, 20))
        for _ in range(2):
            with self.scene.worker() as worker:
                self.assert_lost(worker, 0, 10, before)
                self.assertEqual(worker.stop(), 0, worker.log())
        self.run_once("--accept-loss", self.scene.topic)

    def test_identity__the_ordinary_start_reads_one_record_again_and_consumes_none(self):
        self.produce(orders(0, 10))
        self.run_once()
        with self.scene.worker() as worker:
            worker.wait_logged(rf"partitions topic={re.escape(self.scene.topic)} start=0@10\b")
            self.produce(orders(10, 5))
            self.settle(worker)
            self.assertEqual(worker.metrics().value("records_consumed_total"), 5)
            self.assertEqual(worker.stop(), 0, worker.log())
        self.assertEqual(self.scene.psql("SELECT print_offset, cluster_id IS NOT NULL FROM progress WHERE print_offset IS NOT NULL"),
            [("14", "t")])

    def test_identity__a_start_below_the_fingerprint_is_read_from_there(self):
        """As a worker of the version before leaves it, which sets progress back and knows of no fingerprint."""
        self.produce(orders(0, 10))
        self.run_once()
        self.scene.psql(f"UPDATE progress SET next_offset = 4 WHERE topic = '{self.scene.topic}'")
        with self.scene.worker(**{"dedup.ttl": 0}) as worker:
            worker.wait_until(lambda m: m.value("records_consumed_total") == 6, 30, "what is behind the start")
            self.settle(worker)
            self.assertEqual(worker.stop(), 0, worker.log())
        self.assertEqual(self.scene.progress(self.scene.topic)[0], 10)

    def test_identity__progress_of_the_version_before_takes_a_fingerprint(self):
        self.produce(orders(0, 10))
        self.run_once()
        self.scene.psql("UPDATE progress SET print_offset = NULL, print_hash = NULL, cluster_id = NULL")
        with self.scene.worker() as worker:
            wait_until(lambda: self.scene.psql("SELECT print_offset FROM progress WHERE print_hash IS NOT NULL") == [("9",)],
                20, worker.log)
            self.assertEqual(worker.metrics().value("records_consumed_total"), 0)
            self.assertEqual(worker.stop(), 0, worker.log())

    # Who commits

    def test_identity__a_foreign_member_is_no_operator(self):
        """A consumer of another kind joins under the group's name, reads what comes, commits it and leaves."""
        scene = self.scene = Scene(shared(), partitions=2, deferred_partitions=1)
        scene.apply_rules(BASE_RULES)
        self.produce(orders(0, 10))
        with scene.worker() as worker:
            self.settle(worker)
            stranger = subprocess.Popen(["kcat", "-b", scene.stack.brokers, "-u", "-q", "-G", scene.group, scene.topic],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            try:
                wait_until(lambda: len(worker.partitions(scene.topic)) == 1, 60, "a partition for each of them")
                for partition in (0, 1):
                    scene.produce(orders(100 * (partition + 1), 10), partition=partition)
                    self.expected.add(orders(100 * (partition + 1), 10))
                for _ in range(10):
                    self.assertTrue(stranger.stdout.readline())
            finally:
                stranger.terminate()
                stranger.wait(30)
            self.settle(worker)
            self.assertRegex(worker.log(400), "another consumer has committed under this group's name")
            self.assertEqual(worker.stop(), 0, worker.log())

    # What nobody owned

    def test_identity__a_refused_progress_write_is_told(self):
        """Batches commit, progress does not: a constraint that somebody got wrong."""
        self.scene.psql("ALTER TABLE progress ADD CONSTRAINT wrong CHECK (next_offset < 5) NOT VALID")
        self.produce(orders(0, 10))
        with self.scene.worker() as worker:
            wait_until(lambda: ledger_totals(self.scene) == self.expected.totals(), 30, worker.log)
            worker.wait_logged(r'refuses or does not answer.*request=progress.*reason=.*wrong')
            metrics = worker.wait_until(lambda m: m.value("degraded", what="ledger") == 1, 10, "degraded{ledger}")
            self.assertGreater(metrics.value("ledger_requests_total", op="progress", result="failed"), 0)
            self.assertEqual(metrics.value("dependency_up", dependency="postgresql"), 1)
            self.scene.psql("ALTER TABLE progress DROP CONSTRAINT wrong")
            self.settle(worker)
            worker.wait_until(lambda m: m.value("degraded", what="ledger") == 0, 10, "over")
            self.assertEqual(worker.stop(), 0, worker.log())

    def test_identity__an_assignment_that_is_refused_is_told(self):
        self.scene.psql("ALTER TABLE progress ADD CONSTRAINT wrong CHECK (partition > 7) NOT VALID")
        self.produce(orders(0, 10))
        with self.scene.worker() as worker:
            worker.wait_logged(r'refuses or does not answer.*request=assign.*reason=.*wrong')
            metrics = worker.wait_until(lambda m: m.value("degraded", what="waiting") == 1, 20, "degraded{waiting}")
            self.assertEqual(metrics.value("degraded", what="ledger"), 1)
            self.assertEqual(metrics.value("records_consumed_total"), 0)
            worker.wait_logged("partitions wait for their start")
            self.scene.psql("ALTER TABLE progress DROP CONSTRAINT wrong")
            self.settle(worker)
            worker.wait_until(lambda m: m.value("degraded", what="waiting") == 0 and
                m.value("degraded", what="ledger") == 0, 20, "over")
            self.assertEqual(worker.stop(), 0, worker.log())

    def test_identity__a_right_that_is_missing_stays_told(self):
        """What else the database answers well does not hide it."""
        scene = self.scene
        self.produce(orders(0, 10))
        scene.psql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'permission denied for table progress' USING ERRCODE = '42501'; END $$")
        scene.psql("CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON progress FOR EACH ROW EXECUTE FUNCTION refuse()")
        with scene.worker() as worker:
            worker.wait_logged(r'refuses or does not answer.*request=assign')
            ok = worker.metrics().value("ledger_requests_total", op="history", result="ok")
            metrics = worker.wait_until(
                lambda m: m.value("ledger_requests_total", op="history", result="ok") > ok + 3, 20, "other requests")
            self.assertEqual(metrics.value("degraded", what="ledger"), 1)
            self.assertEqual(metrics.value("dependency_up", dependency="postgresql"), 0)
            self.assertEqual(worker.get("/readyz")[0], 503)
            scene.psql("DROP TRIGGER refuse ON progress")
            self.settle(worker)
            self.assertEqual(worker.stop(), 0, worker.log())


if __name__ == "__main__":
    unittest.main()
