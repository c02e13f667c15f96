"""`produce` against a real broker: what its exit code says, what is left unsent when it ends early, what users see."""

import json
import os
import re
import signal
import subprocess
import tempfile
import unittest

from stack import Scene, binary, shared, wait_until
from stack.events import event
from stack.process import as_process_1, process_1_of
from stack.terminal import CONTROL_C, CONTROL_D, Terminal
from stack.traffic import offsets
from stack.worker import environment

SENT = re.compile(r"^(\d+) sent, (\d+) failed, ", re.M)
SLOTS = 8192  # worker/cli/produce.c: records under way at a time


def lines(name, count):
    return "".join(json.dumps(event(f"{name}-{i}")) + "\n" for i in range(count)).encode()


class ProduceTest(unittest.TestCase):
    def setUp(self):
        self.scene = Scene(shared(), partitions=2, migrate=False)

    def in_topic(self):
        return sum(offsets(self.scene.stack.brokers, self.scene.topic).values())

    def produce(self, code, data, *arguments):
        """Returns ((sent, failed), stderr)."""
        done = self.scene.command("produce", *arguments, data=data)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return tuple(map(int, SENT.match(done.stdout).groups())) if done.stdout else None, done.stderr

    def start(self, *arguments, under=(), **options):
        child = subprocess.Popen([*under, binary(), "produce", *arguments], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment({**self.scene.options, **options}))
        self.addCleanup(child.kill)
        return child

    def terminal(self, *arguments, **more):
        return Terminal([binary(), "produce", *arguments], environment(self.scene.options), **more)

    def wait_for_records(self, count):
        wait_until(lambda: self.in_topic() >= count, 30, "the first records", every_s=0.2)

    def test_produce__a_broker_that_goes_away_ends_it_with_69(self):
        kafka = self.scene.stack.kafka
        self.addCleanup(kafka.thaw)
        child = self.start(**{"kafka.message.timeout.ms": 1500})
        child.stdin.write(lines("before", 1000))
        child.stdin.flush()
        self.wait_for_records(1000)
        kafka.freeze()
        out, said = (text.decode() for text in child.communicate(lines("after", 4 * SLOTS), timeout=60))
        self.assertEqual(child.returncode, 69, out + said)
        self.assertEqual(said.splitlines()[-1],
            "delivery-worker produce: stopped, as the brokers did not take a record: Local: Message timed out")
        sent, failed = map(int, SENT.match(out).groups())
        self.assertEqual(sent, 1000)
        # Those under way, and the one that was being given when their reports came.
        self.assertTrue(0 < failed <= SLOTS + 1, out)

    def test_produce__a_record_that_is_too_large_costs_itself_only(self):
        large = json.dumps(event("large", reason="x" * 5000000)).encode() + b"\n"
        counts, said = self.produce(1, lines("a", 5) + large + lines("b", 5))
        self.assertEqual(counts, (10, 1))
        self.assertIn("first failure: ", said)
        self.assertEqual(self.produce(0, lines("c", 5)), ((5, 0), ""))

    def test_produce__a_partition_that_is_not_there_is_a_usage_error(self):
        self.assertIn("--partition: 2 is not one of the 2", self.produce(2, lines("a", 1), "--partition=2")[1])
        self.assertEqual(self.produce(0, lines("a", 3), "--partition=1")[0], (3, 0))
        self.assertEqual(self.in_topic(), 3)

    def test_produce__blank_lines_are_no_records(self):
        data = b"\n" + lines("a", 2) + b" \t\r\n\n\x00\n" + lines("b", 1) + b"\n   "
        done = self.scene.command("produce", data=data, check=0)
        self.assertRegex(done.stdout, r"^4 sent, 0 failed, .*, 5 blank lines skipped\n$")
        self.assertEqual(self.in_topic(), 4)
        # What is printed instead of sent holds none, so that a file of it is the same records.
        stream = ["--generate", "3000", "--bad", "10", "--start", "2026-01-01T00:00:00Z"]
        printed = self.scene.command("produce", *stream, "--stdout", check=0).stdout
        self.assertEqual(printed.count("\n"), 3000)
        self.assertNotIn("\n\n", printed)

    def test_produce__a_folder_is_named(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(self.produce(2, b"", folder),
                (None, f"delivery-worker produce: {folder}: Is a directory\n"))
            self.assertEqual(self.produce(2, b"", f"{folder}/none"),
                (None, f"delivery-worker produce: {folder}/none: No such file or directory\n"))

    def test_produce__sigterm_ends_it_with_what_was_sent(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with self.subTest(number):
                before = self.in_topic()
                child = self.start()
                child.stdin.write(lines(f"signal-{number}", 500) + b'{"order_id":"cut')
                child.stdin.flush()
                self.wait_for_records(before + 500)
                child.send_signal(number)
                self.assertEqual(child.wait(30), 69)
                self.assertEqual(SENT.match(child.stdout.read().decode()).groups(), ("500", "0"))
                self.assertEqual(child.stderr.read().decode(),
                    "delivery-worker produce: interrupted; the rest of stdin was not sent\n")
                self.assertEqual(self.in_topic(), before + 500)

    def test_produce__obeys_sigterm_as_process_1(self):
        child = self.start("--generate=1000000", "--rate=1000", under=as_process_1([]))
        self.wait_for_records(100)
        os.kill(process_1_of(child), signal.SIGTERM)
        self.assertEqual(child.wait(30), 69)
        sent, failed = map(int, SENT.match(child.stdout.read().decode()).groups())
        self.assertEqual((sent, failed), (self.in_topic(), 0))

    def test_produce__control_c_prints_the_count(self):
        with self.terminal("--generate=1000000", "--rate=1000") as terminal:
            self.wait_for_records(100)
            terminal.type(CONTROL_C)
            self.assertEqual(terminal.wait(), 69)
            count, *said = terminal.rows()
        self.assertEqual(tuple(map(int, SENT.match(count.removeprefix("^C")).groups())), (self.in_topic(), 0))
        self.assertEqual("".join(said),
            "delivery-worker produce: interrupted; the rest of what was to be generated was not sent")

    def test_produce__says_that_it_reads_the_terminal(self):
        with self.terminal() as terminal:
            terminal.wait_for("reads events from the terminal, one a line, until Ctrl-D")
            terminal.type(lines("typed", 1) + CONTROL_D)
            self.assertEqual(terminal.wait(), 0, terminal.text())
            self.assertRegex(terminal.text(), r"(?m)^1 sent, 0 failed, ")
        self.assertEqual(self.in_topic(), 1)

    def test_produce__its_progress_stays_on_one_row(self):
        for columns in (30, 59, 120):
            with self.subTest(columns), self.terminal("--generate=3000", "--rate=3000", columns=columns) as terminal:
                self.assertEqual(terminal.wait(), 0, terminal.text())
                self.assertGreater(terminal.text().count(" sent, "), 3)
                # The count is all that is left, in as many rows as that takes.
                left = "".join(terminal.rows())
                self.assertRegex(left, r"^3000 sent, 0 failed, [0-9.]+ MB, [0-9]+/s$")


if __name__ == "__main__":
    unittest.main()
