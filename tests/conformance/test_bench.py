"""The measurements' own promises: the workloads are what they say, figures land where they belong."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock
import xml.etree.ElementTree

from bench import callgrind, goals, plot, report, results, usage, workload
from bench import __main__ as command
from bench import backlog
from bench.backlog import TooFew
from bench.sections import slow_partner, storm
from bench.sections.steady import difference
from decoder import BINARY
from stack import StackError
from stack.exposition import Exposition

COUNT = 150_000
SEED = 1


def stream(load, count=COUNT):
    """The lines of a workload, as `produce` makes them."""
    done = subprocess.run([BINARY, "produce", *load.arguments(count, SEED), "--stdout"], capture_output=True,
        check=True)
    return done.stdout.split(b"\n")[:-1]


def events_of(lines):
    """(events, lines that are none)."""
    events, bad = [], 0
    for line in lines:
        try:
            event = json.loads(line)
            if not {"order_id", "status", "timestamp"} <= set(event):
                raise ValueError
            events.append(event)
        except (ValueError, TypeError):
            bad += 1
    return events, bad


def distances(lines):
    """How many records after its last occurrence each repeated line comes."""
    last, found = {}, []
    for i, line in enumerate(lines):
        if line in last:
            found.append(i - last[line])
        last[line] = i
    return found


class Workloads(unittest.TestCase):
    def share(self, found, of, low, high):
        self.assertGreaterEqual(found / of, low)
        self.assertLessEqual(found / of, high)

    def test_w1__has_the_shares_that_its_text_names(self):
        lines = [line for line in stream(workload.W1) if line]
        events, _ = events_of(lines)
        self.share(len(distances(lines)), COUNT, 0.018, 0.022)
        refused = subprocess.run([BINARY, "decode"], input=b"\n".join(lines), capture_output=True).stdout
        self.share(sum(line != b"ok" for line in refused.split(b"\n")[:-1]), COUNT, 0.0006, 0.0014)
        newest, late = "", 0
        for event in {event["event_id"]: event for event in events if "event_id" in event}.values():
            at = event["timestamp"].rstrip("Z")  # whole seconds have no fraction
            late += at < newest
            newest = max(newest, at)
        self.share(late, COUNT, 0.008, 0.012)
        self.assertLessEqual(max(int(event["partner_id"][1:]) for event in events if "partner_id" in event), 700)
        self.assertGreater(len({event["partner_id"] for event in events if "partner_id" in event}), 600)
        self.assertGreater(len({event.get("customer_id") for event in events}), 10_000)

    def test_w1__the_same_seed_makes_the_same_stream(self):
        self.assertEqual(stream(workload.W1, 20_000), stream(workload.W1, 20_000))

    def test_w2__every_event_is_an_order_that_credits_both_kinds(self):
        events, bad = events_of(stream(workload.W2, 50_000))
        self.assertEqual(bad, 0)
        self.assertEqual(len({event["order_id"] for event in events}), 50_000)
        for event in events:
            self.assertEqual(event["status"], "delivered")
            self.assertTrue(event["customer_id"] and event["partner_id"])
            self.assertGreaterEqual(event["amount_minor"], workload.RULES["rules"][0]["per_minor"])

    def test_w3__half_repeats_from_far_away_and_its_counterpart_none(self):
        found = distances(stream(workload.W3))
        self.assertGreaterEqual(min(found), 30_000)
        self.share(len(found), COUNT - 30_000, 0.48, 0.52)
        self.assertEqual(distances(stream(workload.W3_UNREPEATED)), [])

    def test_produce__takes_hundredths_of_a_percent_and_nothing_else(self):
        for text, fine in (("0", True), ("2", True), ("0.1", True), ("0.25", True), ("100", True), ("100.0", True),
                ("100.01", False), ("101", False), ("0.125", False), ("1.", False), (".5", False), ("-1", False),
                ("0.-1", False), ("", False), ("1e1", False)):
            with self.subTest(text):
                done = subprocess.run([BINARY, "produce", "--generate", "1", "--stdout", f"--bad={text}"],
                    capture_output=True)
                self.assertEqual(done.returncode, 0 if fine else 2)

    def test_produce__repeats_half_at_the_most_when_they_are_to_be_late(self):
        done = subprocess.run([BINARY, "produce", "--generate", "1", "--stdout", "--duplicates", "51",
            "--repeat-after", "9"], capture_output=True)
        self.assertEqual(done.returncode, 2)

    def test_w5__the_slow_partner_has_a_tenth_of_the_events(self):
        events, _ = events_of(stream(workload.W5))
        slow = sum(event.get("partner_id") == workload.SLOW_PARTNER["partner_id"] for event in events)
        self.share(slow, COUNT, 0.08, 0.13)


PROFILE = """\
events: Ir
fl=(1) worker/ledger/ledger.c
fn=(1) sort_items
+1 100
cfi=(2) ./stdlib/msort.c
cfn=(2) qsort
calls=1 10
+2 700
cfi=(3) worker/gate/dedup.c
cfn=(3) gate_lookup
calls=1 20
+3 50

fl=(2)
fn=(2)
5 400
cfi=(1)
cfn=(4) ref_compare
calls=30 1
* 300

fl=(1)
fn=(4)
6 300

fl=(3)
fn=(3)
7 50

fl=(5) common/thread.c
fn=(5) thread_begin
8 10
cfi=(1)
cfn=(1)
calls=1 1
-3 850

fl=(6) ???
fn=(6) 0x0000000000001234
9 1000
"""


class Profiles(unittest.TestCase):
    def test_callgrind__what_a_library_does_counts_for_the_stage_that_called_it(self):
        with tempfile.NamedTemporaryFile("w", suffix=".out") as out:
            out.write(PROFILE)
            out.flush()
            stages = callgrind.Profile(out.name).by_stage()
        # The comparisons, which the sort calls back, count once.
        self.assertEqual(stages["decide"], 100 + 400 + 300)
        self.assertEqual(stages["Redis"], 50)
        # Nobody of ours asked for it.
        self.assertEqual(stages[callgrind.REST], 10 + 1000)
        self.assertEqual(sum(stages.values()), 100 + 400 + 300 + 50 + 10 + 1000)

    def test_latency__is_of_what_was_observed_in_between(self):
        self.assertEqual(difference([(1, 5), (2, 9)], [(1, 5), (2, 6)]), [(1, 0), (2, 3)])


BURN = """
import sys, time
while time.process_time() < 0.6:
    pass
print("burnt", flush=True)
sys.stdin.read()
"""


class Usage(unittest.TestCase):
    def test_tree__counts_a_child_while_it_lives_and_no_second_time_when_it_is_waited_for(self):
        without = usage.tree_us(os.getpid())
        with subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            burnt = usage.tree_us(os.getpid())
            child.stdin.close()
            child.wait()
        self.assertGreater(burnt - without, 300e3)
        self.assertLess(usage.tree_us(os.getpid()) - burnt, 300e3)


class Backlogs(unittest.TestCase):
    def wait(self, settled, limit_s, most_s=60):
        """What is settled at the end; `settled`: by the looks at it, the last one for ever."""
        looks = list(settled)
        with unittest.mock.patch.object(backlog, "LIMIT_S", most_s), unittest.mock.patch.object(backlog, "counts",
                lambda workers: (0, looks.pop(0) if len(looks) > 1 else looks[0])):
            return backlog._wait_done([unittest.mock.Mock()], (time.monotonic(), 10), 100, limit_s)[1]

    def test_backlog__is_measured_to_its_end_or_for_the_time_that_is_said(self):
        self.assertEqual(self.wait([10, 60, 100], None), 100)
        self.assertEqual(self.wait([10, 60], 0.05), 60)

    def test_backlog__that_is_stuck_is_no_figure(self):
        for settled, limit_s in (([10, 60], None), ([10], 0.05)):
            with self.subTest(settled), self.assertRaisesRegex(StackError, "of 100 records 10 were settled"):
                self.wait(settled, limit_s, most_s=0.05)


def run_of(whole_us):
    return {"worker_us": whole_us - 3, "redis_us": 1, "postgres_us": 2, "kafka_us": 100}


class SlowPartner(unittest.TestCase):
    def test_copies__are_of_those_that_were_deferred(self):
        text = 'delivery_worker_deferred_copies_total{kind="%s"} %d\n'
        worker = unittest.mock.Mock(metrics=lambda: Exposition(text % ("first", 40) + text % ("again", 170)))
        self.assertEqual(slow_partner._copies(worker), {"copies_per_deferred": 5.25})
        worker = unittest.mock.Mock(metrics=lambda: Exposition(text % ("first", 0) + text % ("again", 0)))
        self.assertEqual(slow_partner._copies(worker), {})


class Storm(unittest.TestCase):
    def test_costs__are_of_two_runs_of_one_turn(self):
        # The machine is slower from turn to turn; what a repeat costs and what Redis adds stays as it is.
        runs = {(0, "on"): [run_of(11), run_of(21)], (0, "off"): [run_of(10), run_of(20)],
            (50, "on"): [run_of(7), run_of(12)], (50, "off"): [run_of(8), run_of(13)]}
        storm.add_redis_cost(runs)
        storm.add_repeat_cost(runs, 1000, 500)
        self.assertEqual([run["redis_cost_us"] for run in runs[0, "on"]], [1, 1])
        self.assertEqual([run["repeat_us"] for run in runs[50, "on"]], [3, 3])
        self.assertEqual([run["repeat_us"] for run in runs[50, "off"]], [6, 6])


ABOUT = {"command": "make bench", "date": "2026-01-01", "machine": "m", "worker": "w", "kafka": "k", "redis": "r",
    "postgresql": "p", "postgresql_settings": {"fsync": "on"}, "broker_settings": "b", "redis_settings": "n", "seed": 1,
    "workloads": {"W1": "lifecycle"}}
SETTINGS = {"seed": 1, "batch": 1000, "redis": "on"}


class Reports(unittest.TestCase):
    def measured(self):
        found = results.Results(ABOUT)
        found.add("W1", "end to end", SETTINGS,
            [{"events_per_s": rate, "worker_us": 4.0} for rate in (60e3, 70e3, 80e3)])
        found.add("W4", "1,000 events/s", SETTINGS, [{"p50_ms": 1.5, "p99_ms": 9.0}])
        for count, rate in (("100,000 orders", 50e3), ("1,000,000 orders", 40e3)):
            found.add("table", count, SETTINGS, [{"events_per_s": rate}])
        return found

    def test_goals__are_judged_by_the_median(self):
        judged = {goal.text: goal.met for goal in goals.judge(self.measured())}
        self.assertEqual(judged, {
            "W1 end to end": True, "worker's own CPU an event, W1, everything included": True,
            "latency at 1,000/s, P50": True, "latency at 1,000/s, P99": False, "throughput against table size": False})

    def test_report__is_written_from_the_json_with_plots_that_are_xml(self):
        found = self.measured()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "bench.json")
            with open(path, "w", encoding="utf-8") as out:
                json.dump({"about": ABOUT, "rows": [row.as_json() for row in found.rows], "notes": ["left out"],
                    "goals": [vars(goal) for goal in goals.judge(found)]}, out)
            written = report.publish(path, folder)
            with open(os.path.join(folder, "BENCHMARKS.md"), encoding="utf-8") as text:
                page = text.read()
            self.assertIn("70,000 (60,000–80,000)", page)
            self.assertIn("left out", page)
            self.assertEqual(len(written), 4)
            for svg in written[1:]:
                xml.etree.ElementTree.parse(svg)
                self.assertIn(f"]({os.path.relpath(svg, folder)})", page)

    def measure(self, *sections):
        """Returns (what ended it, the results, of which sections something was written)."""
        found = results.Results({**ABOUT, "took_s": 1})
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()), \
                contextlib.redirect_stderr(io.StringIO()), \
                unittest.mock.patch.object(command, "build_folder", lambda: folder):
            wrong = command.measure_all(None, found, dict(sections), None)
            command.write(found, folder)
            with open(os.path.join(folder, "bench.json"), encoding="utf-8") as data:
                written = [row["section"] for row in json.load(data)["rows"]]
            self.assertTrue(os.path.exists(os.path.join(folder, "BENCHMARKS.md")))
        return wrong, found, written

    def fine(self, name):
        return name, lambda ground, found, size: found.add(name, "end to end", SETTINGS, [{"events_per_s": 1e5}])

    def failing(self, name, wrong):
        return name, unittest.mock.Mock(side_effect=wrong)

    def test_run__keeps_what_was_measured_before_a_section_fails(self):
        for failure in (StackError("the broker left\nits log"), KeyError("name"), OSError("gone"), KeyboardInterrupt()):
            with self.subTest(failure):
                wrong, found, written = self.measure(self.fine("W1"), self.failing("W2", failure), self.fine("W4"))
                self.assertIs(wrong, failure)
                self.assertEqual(written, ["W1"])
                self.assertEqual(len(found.notes), 1)
                self.assertRegex(found.notes[0], "^W2 (failed|was interrupted), ")
                self.assertNotIn("\n", found.notes[0])

    def test_run__goes_on_behind_a_section_that_has_too_few_records(self):
        wrong, found, written = self.measure(self.failing("replicas", TooFew("a larger N=")), self.fine("W1"))
        self.assertIsNone(wrong)
        self.assertEqual(written, ["W1"])
        self.assertEqual(found.notes, ["replicas is not complete: a larger N="])

    def test_run__says_by_its_exit_code_how_it_ended(self):
        for failure, code in ((None, 0), (StackError("x"), 1), (KeyError("x"), 1), (KeyboardInterrupt(), 130)):
            with self.subTest(failure), contextlib.redirect_stderr(io.StringIO()), \
                    unittest.mock.patch.object(command, "main", side_effect=failure, return_value=0):
                self.assertEqual(command.run(), code)

    def test_plot__draws_nothing_of_nothing(self):
        self.assertEqual(plot.draw([]), [])


if __name__ == "__main__":
    unittest.main()
