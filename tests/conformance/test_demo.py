"""
What `make demo` says of its course, from scrapes that are written here, and what it and `make bench` say of an EVENTS=
that they cannot take. The demo itself is run by tests/integration/test_readme.py.
"""

import os
import subprocess
import sys
import tempfile
import unittest

from stack import ROOT
from stack.demo import DEFERRED, TOPIC, Course
from stack.exposition import Exposition


def scrape(consumed=0, outcomes=None, lag=None, copies=None, committed_copies=None):
    """`lag` and `copies`: the lag of each partition of the topic and of .deferred, as far as it is known."""
    lines = [f"delivery_worker_records_consumed_total {consumed}"]
    for outcome in ("credited", "recorded", "stale", "duplicate", "deferred", "dead_lettered", "released"):
        lines.append(f'delivery_worker_records_settled_total{{outcome="{outcome}"}} {(outcomes or {}).get(outcome, 0)}')
    for topic, name, values in ((TOPIC, "consumer_lag", lag), (DEFERRED, "consumer_lag", copies),
            (DEFERRED, "consumer_committed_offset", committed_copies)):
        for partition, value in enumerate(values or []):
            lines.append(f'delivery_worker_{name}{{topic="{topic}",partition="{partition}"}} {value}')
    return Exposition("\n".join(lines))


class CourseTest(unittest.TestCase):
    def setUp(self):
        self.course = Course(1000, {TOPIC: 2, DEFERRED: 2})

    def look(self, at, *positional, **named):
        self.course.look(scrape(*positional, **named), at)
        return self.course.line()

    def test_course__a_lag_that_is_not_known_is_not_0(self):
        unknown = "0 of 1,000 records settled, lag not known yet"
        self.assertEqual(self.look(0), unknown)
        self.assertEqual(self.look(1, lag=[500]), unknown)  # of one partition of two
        self.assertEqual(self.look(2, lag=[500, 500]), "0 of 1,000 records settled, lag 1,000")
        self.assertFalse(self.course.over())

    def test_course__copies_are_no_records(self):
        # 400 are deferred, each once more, and then settle: 1,800 outcomes of 1,000 records.
        self.assertEqual(self.look(0, 1000, {"credited": 600, "deferred": 400}, [0, 0], [250, 150], [0, 0]),
            "600 of 1,000 records settled, lag 0, 400 deferred")
        self.assertEqual(self.look(3, 1400, {"credited": 600, "deferred": 800}, [0, 0], [250, 150], [200, 200]),
            "600 of 1,000 records settled, lag 0, 400 deferred")
        self.assertFalse(self.course.over())
        self.assertEqual(self.look(9, 1800, {"credited": 990, "dead_lettered": 10, "deferred": 800}, [0, 0], [0, 0],
            [400, 400]), "1,000 of 1,000 records settled, lag 0")
        self.assertTrue(self.course.over())

    def test_course__is_over_only_when_every_lag_is_known_to_be_0(self):
        for lag, copies, over in (([0, 0], [0, 0], True), ([0], [0, 0], False), ([0, 0], [0], False),
                ([0, 0], None, False), ([0, 1], [0, 0], False), ([0, 0], [0, 1], False)):
            with self.subTest(lag=lag, copies=copies):
                self.setUp()
                self.look(0, 1000, {"recorded": 1000}, lag, copies)
                self.assertEqual(self.course.over(), over)

    def test_course__its_time_is_neither_the_wait_for_partitions_nor_for_deferrals(self):
        self.look(10)
        self.look(20)
        self.look(21, 100, {"credited": 50})
        self.look(22, 900, {"credited": 500, "deferred": 300})
        # Two hundred outcomes are of copies: 900 records are read.
        self.look(23, 1100, {"credited": 600, "deferred": 500}, [50, 50], [400, 0], [100, 100])
        self.assertIsNone(self.course.read_at)
        self.look(25, 1200, {"credited": 700, "deferred": 500}, [0, 0], [300, 0], [100, 100])
        self.look(60, 1500, {"credited": 1000, "deferred": 500}, [0, 0], [0, 0], [250, 250])
        self.assertEqual((self.course.read_s(), self.course.wait_s()), (5, 35))

    def test_course__released_records_are_read_again(self):
        self.assertEqual(self.look(0, 1500, {"credited": 1000, "released": 500}, [0, 0], [0, 0]),
            "1,000 of 1,000 records settled, lag 0")


class EventsTest(unittest.TestCase):
    def fails(self, *module, **variables):
        """What a command that must not get to its servers says."""
        env = {name: value for name, value in os.environ.items() if name not in ("EVENTS", "N", "SEED", "KAFKA")}
        done = subprocess.run([sys.executable, "-m", *module], cwd=ROOT, capture_output=True, text=True,
            env={**env, "PYTHONPATH": os.path.join(ROOT, "tests"), **variables}, timeout=60)
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        return done.stderr

    def test_demo__an_events_file_that_is_none_is_said_in_a_line(self):
        with tempfile.TemporaryDirectory() as folder:
            empty = os.path.join(folder, "empty")
            with open(empty, "w", encoding="ascii"):
                pass
            blank = os.path.join(folder, "blank")
            with open(blank, "w", encoding="ascii") as out:
                out.write("\n  \n\t\r\n")
            pipe = os.path.join(folder, "pipe")
            os.mkfifo(pipe)
            for path, why in ((os.path.join(folder, "none"), "No such file or directory"),
                    (folder, "is no file, but a folder"), (pipe, "is no file"), (empty, "holds no event"),
                    (blank, "holds no event"), (os.path.join(empty, "below"), "Not a directory")):
                with self.subTest(path):
                    self.assertEqual(self.fails("stack", "demo", EVENTS=path), f"demo: EVENTS={path}: {why}\n")
                    self.assertEqual(self.fails("bench", EVENTS=path), f"bench: EVENTS={path}: {why}\n")

    def test_demo__numbers_out_of_range_are_said_in_a_line(self):
        for name, value, least, most in (("N", "0", 1, 10**9), ("N", "-5", 1, 10**9), ("N", "many", 1, 10**9),
                ("N", "²", 1, 10**9), ("SEED", "x", 0, 2**63 - 1), ("SEED", str(2**63), 0, 2**63 - 1)):
            with self.subTest(name=name, value=value):
                self.assertEqual(self.fails("stack", "demo", **{name: value}),
                    f"demo: {name}={value}: a whole number from {least} to {most} is wanted\n")


if __name__ == "__main__":
    unittest.main()
