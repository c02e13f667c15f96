"""`produce` against a real broker: what its exit code says, and what is left unsent when the broker goes away."""

import json
import re
import subprocess
import unittest

from stack import Scene, binary, shared, wait_until
from stack.events import event
from stack.traffic import offsets
from stack.worker import environment

SENT = re.compile(r"^(\d+) sent, (\d+) failed, ")
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

    def test_produce__a_broker_that_goes_away_ends_it_with_69(self):
        kafka = self.scene.stack.kafka
        self.addCleanup(kafka.thaw)
        child = subprocess.Popen([binary(), "produce"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=environment({**self.scene.options, "kafka.message.timeout.ms": 1500}))
        self.addCleanup(child.kill)
        child.stdin.write(lines("before", 1000))
        child.stdin.flush()
        wait_until(lambda: self.in_topic() == 1000, 30, "the first records", every_s=0.2)
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


if __name__ == "__main__":
    unittest.main()
