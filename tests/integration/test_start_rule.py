"""
Where a partition starts: the contract's start rule, with the tools that an operator would use. Whatever is read again
posts nothing, whatever is gone is named [I1] [I2].
"""

import contextlib
import re
import subprocess
import unittest

from stack import Scene, StackError, shared, wait_until
from stack.events import BASE_RULES, Expected, delivered, ledger_totals
from stack.traffic import encode, kcat, offsets

MARK = re.compile(r"dw1 ([0-9a-f]{32}) ([0-9a-f]{16}) \S+")


def orders(first, count):
    return [delivered(f"o{number}", amount_minor=100 * number + 7, customer_id=f"c{number % 5}")
        for number in range(first, first + count)]


class Locked:
    """A session that holds a table's lock until the block ends: batches wait, progress does not."""

    def __init__(self, scene, table):
        self.sql = f"BEGIN; LOCK TABLE delivery.{table}; SELECT 'locked';\n"
        database = scene.dsn.rpartition("/")[2]
        self.command = ["psql", "-X", "-q", "-t", "-A", "-h", "127.0.0.1", "-p", str(scene.postgres.port),
            "-U", "postgres", "-d", database]

    def __enter__(self):
        self.session = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.session.stdin.write(self.sql)
        self.session.stdin.flush()
        if self.session.stdout.readline().strip() != "locked":
            raise StackError("the table could not be locked")
        return self

    def __exit__(self, *_):
        self.session.stdin.close()
        self.session.stdout.close()
        self.session.wait()


class StartRuleTest(unittest.TestCase):
    def setUp(self):
        self.scene = Scene(shared(), partitions=2, deferred_partitions=1)
        self.scene.apply_rules(BASE_RULES)
        self.expected = Expected()

    def produce(self, events, partition=0, counts=True):
        self.scene.produce(events, partition=partition)
        if counts:
            self.expected.add(events)

    def run_once(self, *arguments):
        """Runs a worker until all is settled. Returns its last metrics."""
        with self.scene.worker(*arguments) as worker:
            # Progress beyond the end, of a log made anew, is no progress: only the totals tell.
            wait_until(lambda: ledger_totals(self.scene) == self.expected.totals(), 30,
                lambda: f"{ledger_totals(self.scene)} of {self.expected.totals()}\n{worker.log()}")
            self.scene.wait_settled(worker)
            metrics = worker.wait_until(lambda m: m.value("records_in_flight") == 0, 10)
            self.assertEqual(worker.stop(), 0, worker.log())
        self.assert_exact()
        return metrics

    def assert_exact(self):
        self.assertEqual(ledger_totals(self.scene), self.expected.totals())

    def posted(self):
        return int(self.scene.psql("SELECT count(*) FROM postings")[0][0])

    def reset(self, partition, offset):
        """As an operator does it."""
        self.scene.stack.kafka.group_tool("--group", self.scene.group, "--topic", f"{self.scene.topic}:{partition}",
            "--reset-offsets", "--to-offset", str(offset), "--execute")

    def forget_progress(self):
        self.scene.psql("DELETE FROM progress")

    def assert_lost(self, worker, partition, first, end):
        """The partition is not consumed, and the log says which offsets are lost; the other one goes on."""
        worker.wait_logged(rf"offsets lost.*\btopic={re.escape(self.scene.topic)} partition={partition} "
            rf"from={first} to={end}\b")
        worker.wait_until(lambda m: m.value("degraded", what="offset_lost") == 1, 10, "degraded{offset_lost}")
        before = self.scene.progress(self.scene.topic).get(partition)
        self.produce(orders(9000 + worker.pid, 3), partition=1 - partition)
        end = offsets(self.scene.stack.brokers, self.scene.topic)[1 - partition]
        wait_until(lambda: self.scene.progress(self.scene.topic).get(1 - partition) == end, 20, worker.log)
        self.assertEqual(self.scene.progress(self.scene.topic).get(partition), before)

    def refuse_then_accept(self, partition, first, end, wrong):
        """A run without word, one with a wrong word, and one with exactly the right one."""
        with self.scene.worker() as worker:
            self.assert_lost(worker, partition, first, end)
            self.assertEqual(worker.stop(), 0, worker.log())
        refused = self.scene.command("run", "--accept-loss", f"{self.scene.topic}:{partition}:{wrong}")
        self.assertEqual(refused.returncode, 78, refused)
        self.assertIn(f"what was found lost is {first}-{end}", refused.stderr)
        self.run_once("--accept-loss", f"{self.scene.topic}:{partition}:{first}-{end}")
        metrics = self.run_once()
        self.assertEqual(metrics.value("degraded", what="offset_lost"), 0)

    # An operator's reset

    def test_start_rule__reset_backwards_is_obeyed_and_posts_nothing(self):
        scene = self.scene
        self.produce(orders(0, 20))
        self.produce(orders(20, 10), partition=1)
        self.run_once()
        posted = self.posted()
        self.reset(0, 5)
        with contextlib.ExitStack() as locked:
            # Progress is set before anything is read: nothing can be settled while the orders are locked.
            locked.enter_context(Locked(scene, "orders"))
            with scene.worker(**{"dedup.ttl": 0}) as worker:
                worker.wait_until(lambda m: m.value("records_in_flight") > 0, 20)
                self.assertEqual(scene.progress(scene.topic), {0: 5, 1: 10})
                locked.close()
                worker.wait_logged(rf"operator's reset is obeyed.*topic={scene.topic} partition=0 offset=5\b")
                scene.wait_settled(worker)
                self.assertEqual(worker.metrics().value("records_consumed_total"), 15)
                self.assertEqual(worker.stop(), 0, worker.log())
        self.assertEqual(self.posted(), posted)
        self.assert_exact()
        self.assertRegex(scene.marks()[0], MARK)

    def test_start_rule__reset_forwards_is_obeyed(self):
        self.produce(orders(0, 10))
        self.run_once()
        self.produce(orders(10, 5), counts=False)
        self.produce(orders(15, 5))
        self.reset(0, 15)
        metrics = self.run_once()
        self.assertEqual(metrics.value("records_consumed_total"), 5)
        self.assertEqual(self.scene.progress(self.scene.topic)[0], 20)

    # Marks, and what they prove

    def test_start_rule__commits_carry_the_mark(self):
        scene = self.scene
        self.produce(orders(0, 10))
        self.run_once()
        self.assertEqual(scene.committed(), scene.progress(scene.topic))
        wal, = scene.psql("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")[0]
        for partition, mark in scene.marks().items():
            epoch, lsn = MARK.fullmatch(mark).groups()
            self.assertEqual(epoch, scene.epoch())
            # 0 where no progress was written since the assignment.
            least = 1 if scene.progress(scene.topic)[partition] else 0
            self.assertTrue(least <= int(lsn, 16) <= int(wal), f"partition {partition}: {lsn} of {wal}")

    def test_start_rule__forgotten_progress_reads_the_whole_log_again(self):
        scene = self.scene
        self.produce(orders(0, 20))
        self.produce(orders(20, 10), partition=1)
        self.run_once()
        posted, epoch = self.posted(), scene.epoch()
        self.assertGreater(scene.stack.redis.command("DBSIZE"), 0)
        self.forget_progress()
        metrics = self.run_once()
        # Progress behind a marked commit is proof of loss: no mark of the old history may skip a record.
        self.assertNotEqual(scene.epoch(), epoch)
        self.assertEqual(metrics.value("records_consumed_total"), 30)
        self.assertEqual(metrics.value("records_settled_total", outcome="duplicate"), 0)
        self.assertEqual(self.posted(), posted)
        self.assertEqual(scene.progress(scene.topic), {0: 20, 1: 10})

    # Data loss

    def test_start_rule__marked_commit_alone_with_a_cut_log_is_data_loss(self):
        self.produce(orders(0, 20))
        self.produce(orders(20, 10), partition=1)
        self.run_once()
        self.scene.stack.delete_records(self.scene.topic, 0, 5)
        self.forget_progress()
        self.refuse_then_accept(0, 0, 5, wrong="0-4")

    def test_start_rule__retention_past_the_stored_offset_is_data_loss(self):
        self.produce(orders(0, 10))
        self.run_once()
        self.produce(orders(10, 5), counts=False)
        self.produce(orders(15, 5))
        self.scene.stack.delete_records(self.scene.topic, 0, 15)
        self.refuse_then_accept(0, 10, 15, wrong="9-15")

    def test_start_rule__offsets_above_the_end_are_data_loss(self):
        scene = self.scene
        self.produce(orders(0, 10))
        self.run_once()
        scene.stack.delete_topic(scene.topic)

        def created():
            try:
                scene.stack.create_topic(scene.topic, 2)
            except StackError:
                return False  # the deletion is still under way
            return True

        wait_until(created, 20, "the topic made anew")
        self.produce(orders(100, 3))
        self.refuse_then_accept(0, 0, 10, wrong="3-10")

    # Offsets without a record

    def test_start_rule__transaction_markers_at_the_end_count_as_settled(self):
        scene = self.scene
        events = orders(0, 7)
        kcat(scene.stack.brokers, "-P", "-t", scene.topic, "-p", "0", "-X", f"transactional.id={scene.name}",
            data=b"".join(line + b"\n" for line in map(encode, events)))
        self.expected.add(events)
        wait_until(lambda: offsets(scene.stack.brokers, scene.topic)[0] == 8, 10, "a marker behind the records")
        with scene.worker() as worker:
            scene.wait_settled(worker)
            wait_until(lambda: scene.committed().get(0) == 8, 10, lambda: f"{scene.committed()}\n{worker.log()}")
            worker.wait_until(lambda m: m.has("consumer_lag", topic=scene.topic, partition="0") and
                m.value("consumer_lag") == 0 and m.value("consumer_lag_seconds") == 0, 10, "lag 0")
            # And in the middle.
            self.produce(orders(7, 5))
            scene.wait_settled(worker)
            self.assertEqual(worker.stop(), 0, worker.log())
        self.assert_exact()
        self.assertEqual(self.run_once().value("records_consumed_total"), 0)


if __name__ == "__main__":
    unittest.main()
