"""`audit`, `audit --from-kafka`, `explain` and `migrate` on ledgers that a worker made."""

import json
import unittest

from stack import Scene, shared
from stack.events import BASE_RULES, WHEN, delivered, event

LATER = "2026-03-01T11:00:00Z"


def findings(report):
    return {check["check"]: check["findings"] for check in report["checks"] if check["wrong"]}


class Ledger(unittest.TestCase):
    """A scene with every kind of record in it, settled by a worker that has left."""

    EVENTS = [
        event("o-1"),
        delivered("o-1", 7289, driver_id="d1"),
        delivered("o-1", 7289, driver_id="d1"),
        delivered("o-2", 1000),
        event("o-2", "cancelled", LATER),
        delivered("o-3", 5000, currency="EUR"),
        event("o-3", "picked_up", LATER, refunded_total_minor=1000),
        event("o-4", "in_transit", customer_id="c2"),
        event("o-4", "at_pickup", customer_id="c9"),  # conflicts
        event("o-5", "no such status"),
        event("o-6", "delivered", LATER, partner_id="p1"),
    ]

    def setUp(self):
        self.scene = Scene(shared(), partitions=3)
        self.scene.apply_rules(BASE_RULES)

    def settle(self, events, **options):
        self.scene.produce(events)
        with self.scene.worker(**options) as worker:
            self.scene.wait_settled(worker)
            self.assertEqual(worker.stop(), 0)

    def audit(self, *flags, code):
        done = self.scene.command("audit", "--json", *flags)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return json.loads(done.stdout)

    def assert_apart(self, report, **counts):
        """Words of the name and their count; nothing else may be apart."""
        found = {name: count for name, count in report["apart"].items() if count}
        self.assertEqual(len(found), len(counts), found)
        for words, count in counts.items():
            self.assertIn(count, [have for name, have in found.items() if words.replace("_", " ") in name.replace("_", " ")], found)


class Audit(Ledger):
    def test_audit__a_settled_ledger_is_clean(self):
        self.settle(self.EVENTS)
        self.assertTrue(self.audit(code=0)["ok"])
        report = self.audit("--from-kafka", code=0)
        self.assert_apart(report, conflict_with_their_order=1, no_valid_event=1)
        compared = [check for check in report["checks"] if "topics' records" in check["check"]]
        self.assertEqual([check["examined"] for check in compared], [5])
        text = self.scene.command("audit", "--from-kafka", check=0).stdout
        self.assertNotIn("WRONG", text)
        self.assertIn("ok     debits equal credits (3 units)\n", text)

    def test_audit__is_clean_while_a_worker_writes(self):
        with self.scene.worker(batch_max=5) as worker:
            for number in range(8):
                orders = [f"r-{number}-{i}" for i in range(50)]
                self.scene.produce([event(o) for o in orders] + [delivered(o, 1234) for o in orders])
                self.audit("--from-kafka", code=0)
            self.scene.wait_settled(worker)
        report = self.audit("--from-kafka", code=0)
        self.assert_apart(report)

    def test_audit__from_kafka_sees_what_the_tables_hide(self):
        self.settle(self.EVENTS)
        corruptions = [
            ("UPDATE orders SET driver_id = 'd2' WHERE order_id = 'o-1'",
                "UPDATE orders SET driver_id = 'd1' WHERE order_id = 'o-1'",
                "order o-1: driver_id is d2 in the ledger, d1 recomputed"),
            ("UPDATE orders SET progress = 70 WHERE order_id = 'o-4'",
                "UPDATE orders SET progress = 50 WHERE order_id = 'o-4'",
                "order o-4: progress is attempted in the ledger, in_transit recomputed"),
            ("UPDATE orders SET outcome = 100, progress = 100 WHERE order_id = 'o-2'",
                "UPDATE orders SET outcome = 90, progress = 90 WHERE order_id = 'o-2'",
                "order o-2: progress is returned in the ledger, cancelled recomputed; outcome is returned"),
            ("UPDATE orders SET outcome_at = outcome_at + interval '1 s' WHERE order_id = 'o-2'",
                "UPDATE orders SET outcome_at = outcome_at - interval '1 s' WHERE order_id = 'o-2'",
                "order o-2: outcome_at is 2026-03-01T11:00:01Z in the ledger, 2026-03-01T11:00:00Z recomputed"),
            ("UPDATE orders SET amount_at = amount_at - interval '1 s' WHERE order_id = 'o-1'",
                "UPDATE orders SET amount_at = amount_at + interval '1 s' WHERE order_id = 'o-1'",
                "order o-1: amount_at is 2026-03-01T09:59:59Z in the ledger, 2026-03-01T10:00:00Z recomputed"),
            ("UPDATE orders SET driver_at = driver_at + interval '1 s' WHERE order_id = 'o-1'",
                "UPDATE orders SET driver_at = driver_at - interval '1 s' WHERE order_id = 'o-1'",
                "order o-1: driver_at is 2026-03-01T10:00:01Z in the ledger, 2026-03-01T10:00:00Z recomputed"),
            ("UPDATE orders SET amount_minor = 999 WHERE order_id = 'o-2'",
                "UPDATE orders SET amount_minor = 1000 WHERE order_id = 'o-2'",
                "order o-2: amount_minor is 999 in the ledger, 1000 recomputed"),
            ("UPDATE orders SET refunded_total_minor = 5 WHERE order_id = 'o-4'",
                "UPDATE orders SET refunded_total_minor = 0 WHERE order_id = 'o-4'",
                "order o-4: refunded_total_minor is 5 in the ledger, 0 recomputed"),
            ("UPDATE orders SET partner_id = 'p2' WHERE order_id = 'o-6'",
                "UPDATE orders SET partner_id = 'p1' WHERE order_id = 'o-6'",
                "order o-6: "),
            ("UPDATE orders SET customer_id = 'c9' WHERE order_id = 'o-4'",
                "UPDATE orders SET customer_id = 'c2' WHERE order_id = 'o-4'",
                "order o-4: "),
            ("UPDATE orders SET order_id = 'o-9' WHERE order_id = 'o-4'",
                "UPDATE orders SET order_id = 'o-4' WHERE order_id = 'o-9'",
                "order o-4: is in the topic and not in the ledger"),
            ("UPDATE progress SET next_offset = next_offset + 100000 WHERE partition = 0",
                "UPDATE progress SET next_offset = next_offset - 100000 WHERE partition = 0",
                f"{self.scene.topic}[0]: progress 1000"),
        ]
        for corrupt, repair, wanted in corruptions:
            with self.subTest(corrupt):
                self.scene.psql(corrupt)
                self.assertTrue(self.audit(code=0)["ok"])
                lines = sum(findings(self.audit("--from-kafka", code=1)).values(), [])
                self.assertTrue(any(wanted in line for line in lines), lines)
                self.scene.psql(repair)
        self.audit("--from-kafka", code=0)

    def test_audit__from_kafka_takes_no_rows_word_for_where_it_began(self):
        """A first record elsewhere excuses an order only where the log does not begin at 0 any more."""
        self.settle(self.EVENTS)
        self.scene.produce([event("o-7", driver_id="d7")], self.scene.deferred)  # nobody's copy
        self.settle([])
        self.assert_apart(self.audit("--from-kafka", code=0), conflict_with_their_order=1, no_valid_event=1)
        self.assertEqual(self.scene.psql("SELECT first_topic FROM orders WHERE order_id = 'o-7'"),
            [(self.scene.deferred,)])
        self.scene.psql("UPDATE orders SET driver_id = 'd8' WHERE order_id = 'o-7'")
        self.scene.psql("UPDATE orders SET driver_id = 'd8', first_topic = 'x' WHERE order_id = 'o-1'")
        self.scene.psql("UPDATE orders SET progress = 70, first_partition = 99 WHERE order_id = 'o-4'")
        self.assertTrue(self.audit(code=0)["ok"])
        lines = sum(findings(self.audit("--from-kafka", code=1)).values(), [])
        self.assertEqual(sorted(line.split(" in the ledger")[0] for line in lines),
            ["order o-1: driver_id is d8", "order o-4: progress is attempted", "order o-7: driver_id is d8"])

    def test_audit__from_kafka_misses_dead_letters(self):
        self.settle(self.EVENTS)
        places = {code: (record.partition, record.offset) for record in self.scene.read()
            for code, text in (("unknown_status", b"no such"), ("order_conflict", b"c9")) if text in record.value}
        # As if they had never been sent, or with the codes exchanged.
        lost, wrong = f"{self.scene.name}-lost", f"{self.scene.name}-wrong"
        self.scene.stack.create_topics({lost: 1, wrong: 1})
        other = {"unknown_status": "order_conflict", "order_conflict": "unknown_status"}
        letters = self.scene.read(self.scene.dlq)
        for letter in letters:
            letter.headers = [(name, other[value.decode()].encode() if name == "dw_error_code" else value)
                for name, value in letter.headers]
        self.scene.send(letters, wrong)
        for topic, said in ((lost, "{code}, and no dead letter says so"),
                (wrong, "the dead letter says {other}, not {code}")):
            done = self.scene.command("audit", "--from-kafka", "--json", options={"kafka.dlq_topic": topic})
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertEqual(findings(json.loads(done.stdout)), {"refused records have their dead letters":
                [f"{self.scene.topic}[{partition}]@{offset}: " + said.format(code=code, other=other[code])
                    for code, (partition, offset) in sorted(places.items(), key=lambda one: one[1])]})
        self.scene.stack.delete_records(self.scene.dlq, 0, len(letters))
        self.assert_apart(self.audit("--from-kafka", code=0), may_have_been_removed=2, conflict_with_their_order=1,
            no_valid_event=1)

    def test_audit__tables_alone_show_money_that_was_made_up(self):
        self.settle(self.EVENTS)
        self.scene.psql("UPDATE balances SET credits = credits + 1 WHERE account_id = 'c1' AND slot = "
            "(SELECT min(slot) FROM balances WHERE account_id = 'c1')")
        done = self.scene.command("audit")
        self.assertEqual(done.returncode, 1)
        self.assertIn("customer_points:c1 PTS: balance", done.stdout)
        self.assertIn("unit PTS", done.stdout)

    def test_audit__what_is_not_settled_is_apart(self):
        self.settle(self.EVENTS)
        self.scene.produce([event("o-1", "returned", LATER), delivered("new", 500)])
        self.assert_apart(self.audit("--from-kafka", code=0), beyond_progress=2, conflict_with_their_order=1,
            no_valid_event=1)

    def test_audit__what_is_deferred_is_apart(self):
        rules = {**BASE_RULES, "partners": [{"partner_id": "slow", "per_second": 1, "burst": 1}]}
        self.scene.apply_rules(rules)
        orders = [delivered(f"s-{i}", 1000, partner_id="slow") for i in range(30)]
        self.scene.produce(orders)
        with self.scene.worker(**{"rate.defer_ms": 3600000}) as worker:
            # Copies that are not due stay in flight; the originals are settled.
            worker.wait_until(lambda _: sum(self.scene.progress(self.scene.topic).values()) == len(orders), 30)
            self.assertEqual(worker.stop(), 0)
        report = self.audit("--from-kafka", code=0)
        progress = self.scene.progress(self.scene.deferred)
        deferred = len({copy.key for copy in self.scene.read(self.scene.deferred)
            if copy.offset >= progress.get(copy.partition, 0)})
        self.assertGreaterEqual(deferred, 20)
        self.assert_apart(report, still_deferred=deferred)

    def test_audit__what_the_database_refused_is_apart(self):
        self.scene.psql("ALTER TABLE orders ADD CHECK (order_id <> 'poison')")
        self.settle(self.EVENTS + [delivered("poison", 100)])
        self.assertIn("database_rejected", [record["headers"]["dw_error_code"] for record in self.scene.dead_letters()])
        self.assert_apart(self.audit("--from-kafka", code=0), database_rejected=1, conflict_with_their_order=1,
            no_valid_event=1)

    def test_audit__orders_below_the_start_of_the_log_are_apart(self):
        self.settle([event(f"old-{i}", "assigned") for i in range(20)])
        ends = self.scene.progress(self.scene.topic)
        self.settle([event(f"old-{i}", "picked_up") for i in range(10)] + self.EVENTS)
        for partition, below in ends.items():
            if below:
                self.scene.stack.delete_records(self.scene.topic, partition, below)
        self.assert_apart(self.audit("--from-kafka", code=0), below_the_start_of_the_log=20, conflict_with_their_order=1,
            no_valid_event=1)

    def test_audit__a_dependency_that_is_away_is_69(self):
        for options, flags, code in [
            ({"pg.dsn": "postgresql://u:secret@127.0.0.1:1/x"}, [], 69),
            ({"pg.dsn": self.scene.dsn + "_nowhere"}, [], 78),
            ({"pg.schema": "nowhere"}, [], 78),
            ({"kafka.brokers": "127.0.0.1:1"}, ["--from-kafka"], 69),
        ]:
            with self.subTest(options):
                done = self.scene.command("audit", *flags, options=options)
                self.assertEqual(done.returncode, code, done.stdout + done.stderr)
                self.assertNotIn("secret", done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)


class Explain(Ledger):
    def test_explain__says_why(self):
        self.settle(self.EVENTS)
        text = self.scene.command("explain", "o-1", check=0).stdout
        for wanted in ["order o-1\n", "progress         delivered\n", "7289 BRL",
                f"points 72 = floor(7289 × 1 × 10000 / (100 × 10000)), rule base v1 in force at {WHEN}\n",
                "order_credit 7289 BRL = max(0, 7289 − 0)\n", "customer_points:c1", "partner_payable:p1"]:
            self.assertIn(wanted, text)
        self.assertNotIn("WRONG", text)
        self.assertIn("points 0: its outcome is not delivered", self.scene.command("explain", "o-2", check=0).stdout)
        self.assertIn("points 0: it has no outcome yet", self.scene.command("explain", "o-4", check=0).stdout)
        self.assertIn("points 0: its amount is not known", self.scene.command("explain", "o-6", check=0).stdout)

    def test_explain__json_with_events(self):
        self.settle(self.EVENTS)
        order = json.loads(self.scene.command("explain", "o-3", "--from-kafka", "--json", check=0).stdout)
        self.assertEqual((order["amount_minor"], order["refunded_total_minor"], order["currency"]), (5000, 1000, "EUR"))
        self.assertEqual((order["points"]["target"], order["points"]["posted"]), (40, 40))
        self.assertEqual(order["terms"]["rule_id"], "base")
        self.assertEqual(sum(p["amount"] for p in order["postings"] if p["kind"] == "order_credit" and
            p["debit_account"] == "clearing:EUR") - 4000, sum(p["amount"] for p in order["postings"] if
            p["kind"] == "order_credit" and p["credit_account"] == "clearing:EUR"))
        self.assertEqual([e["status"] for e in order["events"]], ["delivered", "picked_up"])
        self.assertEqual({e["topic"] for e in order["events"]}, {self.scene.topic})
        refused = self.scene.command("explain", "o-4", "--from-kafka", check=0).stdout
        self.assertIn("order_conflict", refused)
        self.assertIn(f"copy of {self.scene.topic}[", refused)

    def test_explain__no_publishers_text_speaks_to_the_terminal(self):
        driver = "d\x1b[2J\nWRONG: nothing\u009b1m\x7f"
        self.settle([delivered("o-1", 7289, driver_id=driver, reason=driver, source=driver, event_id=driver)])
        for flags in [[], ["--from-kafka"]]:
            text = self.scene.command("explain", "o-1", *flags, check=0).stdout
            self.assertIn("driver           d?[2J?WRONG: nothing?1m? (", text)
            self.assertEqual([c for c in text if not c.isprintable() and c != "\n"], [])
            self.assertNotIn("\nWRONG", text)
        self.assertIn("d?[2J?WRONG: nothing?1m?", text.split("\nevents\n")[1])
        order = json.loads(self.scene.command("explain", "o-1", "--json", check=0).stdout)
        self.assertEqual(order["driver_id"], driver)
        failed = self.scene.command("explain", "o\x1b[2J")
        self.assertEqual((failed.returncode, failed.stderr), (1, "delivery-worker explain: order o?[2J is not in the ledger\n"))

    def test_explain__what_is_wrong_is_1(self):
        self.settle(self.EVENTS)
        for corrupt, said, faulty in [
            ("UPDATE orders SET points = points + 1 WHERE order_id = 'o-1'", "WRONG: posted are 73 points", False),
            ("UPDATE orders SET pinned_rule_version = 99 WHERE order_id = 'o-1'", "WRONG: ", True),
        ]:
            with self.subTest(corrupt):
                self.scene.psql(corrupt)
                done = self.scene.command("explain", "o-1", check=1)
                self.assertIn(said, done.stdout)
                self.assertIn("customer_points:c1", done.stdout)
                self.assertEqual(done.stderr, "")
                order = json.loads(self.scene.command("explain", "o-1", "--json", "--from-kafka", check=1).stdout)
                self.assertEqual(len(order["events"]), 3)
                self.assertEqual(bool(order["fault"]), faulty)
        self.scene.command("explain", "o-3", check=0)

    def test_explain__unknown_order(self):
        self.settle(self.EVENTS)
        done = self.scene.command("explain", "nobody")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(done.stderr, "delivery-worker explain: order nobody is not in the ledger\n")
        done = self.scene.command("explain", "o-5", "--from-kafka")
        self.assertEqual(done.returncode, 1)
        self.assertIn("unknown_status", done.stdout)
        done = self.scene.command("explain", "o-5", "--from-kafka", "--json")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, "delivery-worker explain: order o-5 is not in the ledger\n")
        found = json.loads(done.stdout)
        self.assertEqual(found["order_id"], "o-5")
        self.assertEqual([e["error_code"] for e in found["events"]], ["unknown_status"] * 2)
        self.assertEqual(self.scene.command("explain").returncode, 2)


class Migrate(unittest.TestCase):
    def test_migrate__twice_and_new_epoch(self):
        scene = Scene(shared(), partitions=1, migrate=False)
        first = scene.command("migrate", check=0).stdout
        self.assertIn('created schema "delivery"\n', first)
        self.assertIn("applied 0001_ledger.sql\n", first)
        before = scene.psql("SELECT * FROM history")
        self.assertRegex(scene.command("migrate", check=0).stdout, r'^schema "delivery" has version \d+, nothing to do\n$')
        self.assertEqual(scene.psql("SELECT * FROM history"), before)
        again = json.loads(scene.command("migrate", "--new-epoch", "--json", check=0).stdout)
        self.assertEqual(again["applied"], [])
        self.assertEqual(scene.psql("SELECT epoch, drawn_because FROM history"), [(again["epoch"], "migrate --new-epoch")])
        self.assertNotEqual(again["epoch"], before[0][1])

    def test_migrate__a_newer_schema_is_left_alone(self):
        scene = Scene(shared(), partitions=1)
        scene.psql("INSERT INTO schema_version SELECT max(version) + 2, 'from the future', now(), max(version) + 1 "
            "FROM schema_version")
        done = scene.command("migrate")
        self.assertEqual(done.returncode, 1)
        self.assertIn("this binary knows no newer one than", done.stderr)
        self.assertEqual(scene.command("audit").returncode, 78)


if __name__ == "__main__":
    unittest.main()
