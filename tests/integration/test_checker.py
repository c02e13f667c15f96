"""The checker against a real ledger: what a worker made is clean, and what is changed behind its back is found."""

import json
import os
import subprocess
import sys
import unittest

import checker
from stack import ROOT, Record, Scene, StackError, shared
from stack.events import BASE_RULES, delivered, event
from stack.traffic import encode

LATER = "2026-03-01T11:00:00Z"
EVENTS = [event("o-1", driver_id="d\\N,\"\n"), delivered("o-1", 7289), delivered("o-1", 7289),
    delivered("o-2", 1000, "c2"), event("o-2", "cancelled", LATER), delivered("o-3", 5000, currency="EUR"),
    event("o-3", "picked_up", LATER, refunded_total_minor=1000), event("o-4", "in_transit", customer_id="c2"),
    event("o-4", "at_pickup", customer_id="c9"), event("o-5", "no such status")]

# (category, statement, its reverse)
CORRUPTIONS = [
    ("wrong amount", "UPDATE orders SET amount_minor = 7290 WHERE order_id = 'o-1'",
        "UPDATE orders SET amount_minor = 7289 WHERE order_id = 'o-1'"),
    ("wrong amount", "UPDATE orders SET outcome_at = outcome_at + interval '1 us' WHERE order_id = 'o-1'",
        "UPDATE orders SET outcome_at = outcome_at - interval '1 us' WHERE order_id = 'o-1'"),
    ("wrong amount", "UPDATE orders SET driver_id = 'd' WHERE order_id = 'o-1'",
        "UPDATE orders SET driver_id = E'd\\\\N,\"\\n' WHERE order_id = 'o-1'"),
    ("lost", "UPDATE orders SET refunded_total_minor = 0 WHERE order_id = 'o-3'",
        "UPDATE orders SET refunded_total_minor = 1000 WHERE order_id = 'o-3'"),
    ("lost", "UPDATE orders SET order_id = 'o-9' WHERE order_id = 'o-4'",
        "UPDATE orders SET order_id = 'o-4' WHERE order_id = 'o-9'"),
    ("unbalanced", "UPDATE balances SET credits = credits + 1 WHERE account_id = 'c1'",
        "UPDATE balances SET credits = credits - 1 WHERE account_id = 'c1'"),
    ("unbalanced", "UPDATE orders SET points = points + 1 WHERE order_id = 'o-1'",
        "UPDATE orders SET points = points - 1 WHERE order_id = 'o-1'"),
    ("wrong amount", "UPDATE posted SET amount = amount - 1 WHERE order_id = 'o-1' AND kind = 1",
        "UPDATE posted SET amount = amount + 1 WHERE order_id = 'o-1' AND kind = 1"),
    ("phantom", "UPDATE posted SET source_offset = source_offset + 1000 WHERE order_id = 'o-1'",
        "UPDATE posted SET source_offset = source_offset - 1000 WHERE order_id = 'o-1'"),
    ("stuck", "UPDATE progress SET next_offset = next_offset - 1 WHERE next_offset > 0 AND topic NOT LIKE '%deferred'",
        "UPDATE progress SET next_offset = next_offset + 1 WHERE next_offset > 0 AND topic NOT LIKE '%deferred'"),
    ("skipped offset", "UPDATE progress SET next_offset = next_offset + 1 WHERE next_offset > 0",
        "UPDATE progress SET next_offset = next_offset - 1 WHERE next_offset > 0"),
]


class CheckerTest(unittest.TestCase):
    def settled(self, **options):
        scene = Scene(shared(), partitions=2, **options)
        scene.apply_rules(BASE_RULES)
        # In one partition: which of two customers is first is determined.
        scene.produce(EVENTS, partition=1)
        with scene.worker() as worker:
            scene.check(worker)
            self.assertEqual(worker.stop(), 0, worker.log())
        return scene

    def command_line(self, scene, *more):
        path = os.path.join(scene.stack.folder, scene.name)
        scene.journal.save(f"{path}.journal")
        with open(f"{path}.rules", "w", encoding="ascii") as out:
            json.dump(BASE_RULES, out)
        return subprocess.run([sys.executable, "-m", "checker", f"{path}.journal", f"{path}.rules", "--brokers",
            scene.stack.brokers, "--dsn", scene.dsn, "--topic", scene.topic, "--group", scene.group, *more],
            cwd=os.path.join(ROOT, "tests"), capture_output=True, text=True)

    def test_checker__finds_what_was_changed_behind_the_worker(self):
        scene = self.settled()
        scene.check_ledger()
        for category, statement, reverse in CORRUPTIONS:
            with self.subTest(statement):
                scene.psql(statement)
                findings = scene.judge()
                self.assertIn(category, findings.categories(), findings.table())
                scene.psql(reverse)
        scene.check_ledger()
        scene.psql(CORRUPTIONS[0][1])
        wanted = "(?s)wrong amount +[1-9].*order o-1: amount_minor is 7290, not 7289"
        with self.assertRaisesRegex(AssertionError, wanted):
            scene.check_ledger()

    def test_checker__finds_what_was_added_to_the_topics(self):
        scene = self.settled()
        scene.send([Record(b"{}", headers=[("dw_error_code", b"not_json")])], scene.dlq)
        findings = scene.judge()
        self.assertEqual(findings.categories(), {"phantom"}, findings.table())
        # Not by the scene, and no worker there: nobody sent it, and nobody settles it.
        scene.stack.kcat("-P", "-t", scene.topic, "-p", "0", data=encode(event("o-1")))
        findings = scene.judge()
        self.assertEqual(findings.categories(), {"phantom", "stuck"}, findings.table())
        scene.journal.adopt(scene.topic, scene.read())
        self.assertEqual(scene.judge(unsettled=True).counts()["phantom"], 1)
        with self.assertRaisesRegex(AssertionError, "stuck .*\n.*progress (0|None), the log ends at 1"):
            scene.check(limit_s=0.5)

    def test_checker__command_line(self):
        scene = self.settled()
        done = self.command_line(scene, "--commits-follow")
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        self.assertEqual([line.split()[-1] for line in done.stdout.splitlines()[:-1]], ["0"] * len(checker.CATEGORIES))
        self.assertIn(f"examined: {len(EVENTS)} records, 4 orders", done.stdout)
        scene.psql("DELETE FROM posted WHERE order_id = 'o-3' AND kind = 1")
        done = self.command_line(scene)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("order o-3: points 0, not 40", done.stdout)
        done = self.command_line(scene, "--dsn", scene.dsn + "_nowhere")
        self.assertEqual((done.returncode, done.stdout), (2, ""))

    def test_checker__a_journal_knows_what_was_acknowledged(self):
        scene = Scene(shared(), partitions=1)
        scene.stack.configure_topic(scene.topic, "max.message.bytes", 3000)
        small = [Record(encode(event(f"o-{i}")), b"k", [("h", None), ("h", b"\x00")]) for i in range(2)]
        large = Record(encode(event("large", padding="x" * 5000)))
        scene.send(small)
        with self.assertRaisesRegex(StackError, "too large"):
            scene.send([large])
        self.assertEqual([entry.value for entry in scene.journal.unknown], [large.value])
        in_topic = scene.read()
        self.assertEqual([(entry.place(), entry.timestamp_ms, entry.content()) for entry in scene.journal.acknowledged],
            [((scene.topic, 0, one.offset), one.timestamp_ms, (one.key, one.value, tuple(one.headers)))
                for one in in_topic])
        self.assertEqual([one.value for one in in_topic], [one.value for one in small])
        path = os.path.join(scene.stack.folder, f"{scene.name}.journal")
        scene.journal.save(path)
        again = checker.Journal.load(path)
        self.assertEqual((again.acknowledged, again.unknown), (scene.journal.acknowledged, scene.journal.unknown))
        with scene.worker() as worker:
            scene.check(worker)


if __name__ == "__main__":
    unittest.main()
