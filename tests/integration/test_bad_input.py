"""
What the worker refuses: each record once into the dead letters, as it came, at nobody else's expense [I9] [I10]. The
codes are those of the contract, section 5.
"""

import dataclasses
import hashlib
import json
import os
import re
import socket
import unittest

from stack import Record, Scene, Session, data_folder, shared, wait_until
from stack.events import BASE_RULES, Expected, delivered, event, ledger_totals
from stack.traffic import encode, partition_count

# What a publisher's own headers may be: binary, repeated, null, empty, and named like ours.
HEADERS = [("trace", b"\x00\xff\x1e\x1f"), ("again", b"1"), ("again", b"2"), ("null", None), ("empty", b""),
    ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("dw_error_code", b"forged")]
KEY = b"\x00key\xff\n"

OURS = ["dw_source_topic", "dw_source_partition", "dw_source_offset", "dw_source_timestamp_ms", "dw_error_class",
    "dw_error_code", "dw_error_field", "dw_error_message", "dw_attempts", "dw_worker"]

CLASSES = {
    "malformed": {"tombstone", "too_large", "not_json", "invalid_utf8", "too_deep", "duplicate_member", "not_object"},
    "invalid": {"missing_field", "wrong_type", "bad_format", "out_of_range", "unknown_status", "unknown_field",
        "unsupported_version", "envelope_mismatch"},
    "conflict": {"order_conflict"},
    "database": {"database_rejected"},
}


def class_of(code):
    return next(name for name, codes in CLASSES.items() if code in codes)


def nested(depth):
    """A legal event but for its depth: the outer object is 1."""
    return encode(event("deep"))[:-1] + b',"x":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def raw(text):
    """An event's text with one member put in as it stands."""
    return b'{"order_id":"bad","status":"created","timestamp":"2026-03-01T10:00:00Z",' + text + b"}"


def of(**members):
    return encode({name: value for name, value in {**event("bad"), **members}.items() if value is not ...})


# (code, field that the letter must name, value, headers beside HEADERS)
REFUSED = [
    ("tombstone", "", None, []),
    ("too_large", "", of(padding="x" * 70000), []),
    ("not_json", "", b"", []),
    ("not_json", "", b"{", []),
    ("not_json", "", b"\xef\xbb\xbf" + of(), []),
    ("not_json", "", of() + b" x", []),
    ("not_json", "", raw(b'"reason":"a\\u0000b"'), []),
    ("not_json", "", of() + b"\x00", []),
    ("not_json", "", raw(b'"reason":"\\ud800"'), []),
    ("invalid_utf8", "", raw(b'"reason":"\xc3\x28"'), []),
    ("too_deep", "", nested(9), []),
    ("duplicate_member", ..., raw(b'"order_id":"bad"'), []),
    ("duplicate_member", ..., raw(b'"x":{"y":1,"y":2}'), []),
    ("not_object", "", b"[1]", []),
    ("not_object", "", b'"text"', []),
    ("missing_field", "order_id", of(order_id=...), []),
    ("missing_field", "timestamp", of(timestamp=...), []),
    ("missing_field", "currency", of(amount_minor=5), []),
    ("missing_field", "amount_minor", of(currency="EUR"), []),
    ("wrong_type", "amount_minor", of(amount_minor="10", currency="EUR"), []),
    ("wrong_type", "amount_minor", raw(b'"currency":"EUR","amount_minor":1e3'), []),
    ("wrong_type", "customer_id", of(customer_id=None), []),
    ("bad_format", "order_id", of(order_id="a b"), []),
    ("bad_format", "timestamp", of(timestamp="2026-02-30T10:00:00Z"), []),
    ("bad_format", "currency", of(amount_minor=5, currency="PTS"), []),
    ("out_of_range", "order_id", of(order_id="a" * 65), []),
    ("out_of_range", "timestamp", of(timestamp="1999-12-31T23:59:59Z"), []),
    ("out_of_range", "timestamp", of(timestamp="2999-01-01T00:00:00Z"), []),
    ("out_of_range", "amount_minor", of(amount_minor=2 ** 53, currency="EUR"), []),
    ("out_of_range", ..., raw(b'"x":99999999999999999999'), []),
    ("unknown_status", "status", of(status="lost"), []),
    ("unknown_field", "colour", of(colour="red"), []),
    ("unsupported_version", "schema_version", of(schema_version=2), []),
    ("envelope_mismatch", "ce_id", of(event_id="e1"), [("ce_id", b"e2"), ("ce_source", b"shop")]),
    ("envelope_mismatch", "ce_source", of(event_id="e1", source="shop"), [("ce_id", b"e1"), ("ce_source", b"till")]),
]


class BadInputTest(unittest.TestCase):
    def scene(self, **more):
        scene = Scene(shared(), **more)
        scene.apply_rules(BASE_RULES)
        return scene

    def assert_letter(self, letter, sent, code, field, pid, attempts="1"):
        """`sent` is the record as it was read back from its topic, `letter` what was made of it."""
        count = len(letter.headers) - len(OURS)
        self.assertEqual((letter.key, letter.value), (sent.key, sent.value), code)
        self.assertEqual(letter.headers[:count], sent.headers, code)
        self.assertEqual([name for name, _ in letter.headers[count:]], OURS)
        self.assertEqual(letter.header("dw_source_partition"), str(sent.partition))
        self.assertEqual(letter.header("dw_source_offset"), str(sent.offset))
        self.assertEqual(letter.header("dw_source_timestamp_ms"), str(sent.timestamp_ms))
        self.assertEqual(letter.header("dw_error_class"), class_of(code))
        self.assertEqual(letter.header("dw_error_code"), code)
        if field is not ...:
            self.assertEqual(letter.header("dw_error_field"), field, code)
        self.assertRegex(letter.header("dw_error_message"), r"\A[ -~]+\Z")
        self.assertEqual(letter.header("dw_attempts"), attempts)
        self.assertEqual(letter.header("dw_worker"), f"{socket.gethostname()}/{pid}")

    def letters(self, scene, dlq=None):
        """{(partition, offset) of the original: dead letter}, each at most once."""
        found = {}
        for letter in scene.read(dlq or scene.dlq):
            self.assertEqual(letter.header("dw_source_topic"), scene.topic)
            place = int(letter.header("dw_source_partition")), int(letter.header("dw_source_offset"))
            self.assertNotIn(place, found, "two letters of one record")
            found[place] = letter
        return found

    def assert_moved_on(self, scene, worker):
        """All is settled, in PostgreSQL and in Kafka, and as the checker wants it."""
        scene.check(worker)
        metrics = worker.wait_until(lambda m: m.is_zero("consumer_lag") and m.value("records_in_flight") == 0, 10)
        consumed, accounted = metrics.conservation()
        self.assertEqual(consumed, accounted)
        return metrics

    def test_bad_input__each_code_costs_its_record_only(self):
        scene = self.scene(partitions=3, **{"event.unknown_members": "refuse"})
        good = [delivered(f"good-{i}", 100 + i, f"c{i % 7}", f"p{i % 5}") for i in range(2 * len(REFUSED))]
        batch, refused = [], {}
        for i, (code, field, value, headers) in enumerate(REFUSED):
            batch.append(Record(encode(good[2 * i]), b"good", partition=i % 3))
            batch.append(Record(value, KEY, HEADERS + headers, partition=i % 3))
            batch.append(Record(encode(good[2 * i + 1]), b"good", partition=i % 3))
        scene.send(batch)
        in_topic = scene.read()
        places = {}
        for partition in range(3):
            sent = [row for i, row in enumerate(REFUSED) if i % 3 == partition]
            arrived = [record for record in in_topic if record.partition == partition and record.key == KEY]
            self.assertEqual([record.value for record in arrived], [value for _, _, value, _ in sent])
            places.update({(partition, record.offset): (record, row) for record, row in zip(arrived, sent)})
        with scene.worker() as worker:
            metrics = self.assert_moved_on(scene, worker)
            letters = self.letters(scene)
            self.assertEqual(set(letters), set(places))
            for place, (record, (code, field, _, _)) in places.items():
                self.assert_letter(letters[place], record, code, field, worker.pid)
            counts = {code: sum(1 for row in REFUSED if row[0] == code) for codes in CLASSES.values() for code in codes}
            self.assertEqual(metrics.by("dead_letters_total", "code"), counts)
            self.assertEqual(metrics.value("records_settled_total", outcome="dead_lettered"), len(REFUSED))
            self.assertEqual(worker.stop(), 0, worker.log())
            # One line soon, the rest when it leaves, or after a minute.
            said = re.findall(rf'level=warn msg="dead letters" count=(\d+) codes=\S+ topic={scene.topic} partition=\d ',
                worker.log(1000))
            self.assertEqual(sum(map(int, said)), len(REFUSED), worker.log())
            self.assertLessEqual(len(said), 2)
        self.assertEqual(ledger_totals(scene), Expected(good).totals())

    def test_bad_input__null_and_empty_keys_stay_apart(self):
        scene = self.scene(partitions=1)
        scene.send([Record(b"x", None), Record(b"y", b"")])
        with scene.worker() as worker:
            self.assert_moved_on(scene, worker)
        self.assertEqual({letter.value: letter.key for letter in scene.read(scene.dlq)}, {b"x": None, b"y": b""})

    def test_bad_input__unknown_members_are_ignored_and_counted(self):
        scene = self.scene(partitions=1)
        good = delivered("o1", colour="red", size={"x": [1, None]})
        scene.produce([good])
        with scene.worker() as worker:
            metrics = self.assert_moved_on(scene, worker)
            self.assertEqual(metrics.value("unknown_members_total"), 2)
        self.assertEqual(scene.read(scene.dlq), [])
        self.assertEqual(ledger_totals(scene), Expected([good]).totals())

    # order_conflict

    CONFLICTS = [("customer_id", {"customer_id": "other"}), ("partner_id", {"partner_id": "other"}),
        ("currency", {"currency": "USD"})]

    def assert_first_stays(self, scene, worker, conflicts):
        self.assert_moved_on(scene, worker)
        letters = self.letters(scene)
        in_topic = {json.loads(record.value)["reason"]: record for record in scene.read()}
        self.assertEqual(set(letters), {(in_topic[f"bad {field}"].partition, in_topic[f"bad {field}"].offset)
            for field, _ in conflicts})
        for field, _ in conflicts:
            sent = in_topic[f"bad {field}"]
            self.assert_letter(letters[(sent.partition, sent.offset)], sent, "order_conflict", field, worker.pid)
        rows = scene.psql("SELECT order_id, customer_id, partner_id, currency, outcome, amount_minor, points, "
            "order_credit_minor FROM order_state ORDER BY 1")
        self.assertEqual(rows, [(f"o-{field}", "c1", "p1", "BRL", "delivered", "500", "5", "500")
            for field, _ in sorted(conflicts)])

    def conflict_events(self, field, members):
        first = event(f"o-{field}", customer_id="c1", partner_id="p1", amount_minor=500, currency="BRL",
            reason=f"first {field}")
        # Later and of another amount: had any of it been merged, points and credit would differ.
        bad = {**delivered(f"o-{field}", 900, reason=f"bad {field}"), **members, "timestamp": "2026-03-01T12:00:00Z"}
        last = event(f"o-{field}", "delivered", timestamp="2026-03-01T11:00:00Z", reason=f"last {field}")
        return first, bad, last

    def test_bad_input__conflict_within_one_batch(self):
        scene = self.scene(partitions=1)
        scene.produce([one for conflict in self.CONFLICTS for one in self.conflict_events(*conflict)])
        with scene.worker(workers=1) as worker:
            self.assert_first_stays(scene, worker, self.CONFLICTS)

    def test_bad_input__conflict_across_batches(self):
        scene = self.scene(partitions=1)
        triples = [self.conflict_events(*conflict) for conflict in self.CONFLICTS]
        with scene.worker() as worker:
            for step in zip(*triples):
                scene.produce(step)
                scene.wait_settled(worker)
            self.assert_first_stays(scene, worker, self.CONFLICTS)

    def test_bad_input__conflict_of_a_batch_that_is_rolled_back(self):
        """What contradicts the order is decided by the transaction that commits: by then another worker was faster."""
        scene = self.scene(partitions=2, workers=1, **{"pg.statement_timeout_ms": 500})
        scene.produce([event("plug"), event("o")], partition=0)
        first = delivered("o", customer_id="c1", partner_id="p1", reason="first")
        second = event("o", "picked_up", customer_id="c2", partner_id="p1", reason="second")
        with scene.worker() as worker, Session(scene) as plug, Session(scene) as other:

            def wait_retries(count):
                worker.wait_until(lambda m: m.value("pg_transactions_total", result="retried") >= count, 20,
                    f"{count} retries")

            scene.wait_settled(worker)
            # Both come in one batch: while the one before is held up, they queue.
            plug.run("BEGIN; SELECT 1 FROM orders WHERE order_id = 'plug' FOR UPDATE")
            scene.produce([event("plug", "confirmed")], partition=0)
            wait_retries(1)
            # The batch will read an order without a customer, and its write wait and time out.
            other.run("BEGIN; UPDATE orders SET customer_id = 'c2', rev = rev + 1 WHERE order_id = 'o'")
            scene.produce([first], partition=0)
            scene.produce([second], partition=1)
            worker.wait_until(lambda m: m.value("records_consumed_total") == 5, 20, "all consumed")
            plug.run("ROLLBACK")
            wait_until(lambda: scene.progress(scene.topic)[0] == 3, 20, worker.log)
            wait_retries(worker.metrics().value("pg_transactions_total", result="retried") + 1)
            self.assertEqual(scene.read(scene.dlq), [])
            other.run("COMMIT")
            self.assert_moved_on(scene, worker)
        letters = self.letters(scene)
        self.assertEqual(set(letters), {(0, 3)}, "the letters are not those of the order as it is")
        self.assertEqual(letters[(0, 3)].header("dw_error_code"), "order_conflict")
        self.assertEqual(scene.psql("SELECT customer_id, partner_id, progress FROM order_state WHERE order_id = 'o'"),
            [("c2", "p1", "picked_up")])

    # database_rejected

    def refuse_in_database(self, scene):
        """Two orders that PostgreSQL refuses: by a constraint (23514) and by an error of a trigger (22003)."""
        scene.psql("""
            ALTER TABLE orders ADD CONSTRAINT no_poison CHECK (order_id <> 'poison-23');
            CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION 'out of range' USING ERRCODE = '22003';
            END $$;
            CREATE TRIGGER poison BEFORE INSERT OR UPDATE ON orders FOR EACH ROW
                WHEN (NEW.order_id = 'poison-22') EXECUTE FUNCTION poison()""")

    def test_bad_input__database_rejects_one_record_of_a_batch(self):
        scene = self.scene(partitions=1)
        self.refuse_in_database(scene)
        good = [delivered(f"good-{i}") for i in range(40)]
        scene.produce(good[:13] + [delivered("poison-23")] + good[13:20] + [delivered("poison-22")] + good[20:])
        with scene.worker(workers=1) as worker:
            self.assert_moved_on(scene, worker)
            sent = {record.offset: record for record in scene.read() if b"poison" in record.value}
            letters = self.letters(scene)
            self.assertEqual({offset for _, offset in letters}, set(sent))
            for (_, offset), letter in letters.items():
                self.assert_letter(letter, sent[offset], "database_rejected", "", worker.pid)
                wanted = "23514" if b"poison-23" in letter.value else "22003"
                self.assertIn(wanted, letter.header("dw_error_message"))
        self.assertEqual(ledger_totals(scene), Expected(good).totals())

    def test_bad_input__refused_alone_waits_until_others_commit(self):
        scene = self.scene(partitions=1)
        self.refuse_in_database(scene)
        scene.produce([delivered("poison-23")])
        with scene.worker() as worker:
            metrics = worker.wait_until(lambda m: m.value("pg_transactions_total", result="rejected") >= 5, 20)
            self.assertEqual(metrics.value("records_in_flight"), 1)
            self.assertEqual(metrics.value("dead_letters_total"), 0)
            self.assertEqual(scene.read(scene.dlq), [])
            self.assertEqual(scene.unsettled(), 1)
            good = delivered("good")
            scene.produce([good])
            metrics = self.assert_moved_on(scene, worker)
            self.assertEqual(metrics.by("dead_letters_total", "code")["database_rejected"], 1)
        self.assertEqual(len(self.letters(scene)), 1)
        self.assertEqual(ledger_totals(scene), Expected([good]).totals())

    def test_bad_input__refused_alone_shows_as_degraded(self):
        scene = self.scene(partitions=1)
        self.refuse_in_database(scene)
        scene.produce([delivered("poison-23")])
        with scene.worker() as worker:
            worker.wait_until(lambda m: m.value("degraded", what="ledger") == 1, 10, "degraded{ledger}")
            scene.produce([delivered("good")])
            self.assert_moved_on(scene, worker)
            worker.wait_until(lambda m: m.value("degraded", what="ledger") == 0, 10, "degraded{ledger} to end")

    # the dead letters' own topic

    LARGE, SMALL = b"{" + b"x" * 5000, b"{"

    def send_to_small_topic(self, values):
        """Letters that meet a limit below what the worker may put into one produce batch."""
        scene = self.scene(partitions=1)
        dlq = f"{scene.name}-small"
        scene.stack.create_topic(dlq, 1, {"max.message.bytes": 3000})
        good = delivered("good")
        scene.send([Record(value, KEY, HEADERS) for value in values] + [Record(encode(good))])
        with scene.worker(**{"kafka.dlq_topic": dlq}) as worker:
            pid = worker.pid
            metrics = self.assert_moved_on(scene, worker)
            self.assertEqual(metrics.by("dead_letters_total", "code")["not_json"], len(values))
            self.assertEqual(metrics.value("degraded", what="dead_letters"), 0)
        self.assertEqual(ledger_totals(scene), Expected([good]).totals())
        letters = self.letters(scene, dlq)
        return pid, [(sent, letters[(0, sent.offset)]) for sent in scene.read() if sent.key == KEY]

    def test_bad_input__letter_too_large_goes_without_its_value(self):
        pid, [(sent, letter)] = self.send_to_small_topic([self.LARGE])
        self.assertIsNone(letter.value)
        self.assertEqual(letter.header("dw_value_bytes"), str(len(self.LARGE)))
        self.assertEqual(letter.header("dw_value_sha256"), hashlib.sha256(self.LARGE).hexdigest())
        without = [one for one in letter.headers if not one[0].startswith("dw_value_")]
        self.assert_letter(dataclasses.replace(letter, headers=without, value=sent.value), sent, "not_json", "", pid,
            attempts="3")  # with others, alone, without its value

    def test_bad_input__letter_keeps_its_value_beside_one_too_large(self):
        _, pairs = self.send_to_small_topic([self.SMALL, self.LARGE, self.SMALL])
        self.assertEqual([letter.value for _, letter in pairs], [self.SMALL, None, self.SMALL])

    def assert_waits_for_dlq(self, scene, worker, dlq, mend):
        """A record that can't be copied stays unsettled, others are credited, and it settles when it can."""
        good = [delivered(f"good-{i}") for i in range(5)]
        scene.send([Record(b"{", KEY, HEADERS, 0)] + [Record(encode(one), partition=0) for one in good])
        worker.wait_until(lambda m: m.value("degraded", what="dead_letters") == 1, 20, "degraded{dead_letters}")
        metrics = worker.wait_until(lambda m: m.value("records_settled_total") == len(good), 10)
        self.assertEqual(metrics.value("records_in_flight"), 1)
        self.assertEqual(metrics.value("dead_letters_total"), 0)
        self.assertEqual(ledger_totals(scene), Expected(good).totals())
        self.assertEqual(scene.unsettled(), 1 + len(good))
        self.assertEqual(scene.committed().get(0, 0), 0)
        mend()
        metrics = self.assert_moved_on(scene, worker)
        self.assertEqual(metrics.value("degraded", what="dead_letters"), 0)
        self.assertEqual(metrics.value("dead_letters_total"), 1)
        # A copy whose answer was lost may repeat; the place that it names says so.
        letters = {letter.header("dw_source_offset"): letter for letter in scene.read(dlq)}
        sent = scene.read()[0]
        self.assertEqual(set(letters), {"0"})
        self.assert_letter(letters["0"], sent, "not_json", "", worker.pid, letters["0"].header("dw_attempts"))

    def test_bad_input__topic_of_dead_letters_missing(self):
        """It is there at the start, else `run` would wait for it, and goes then."""
        scene = self.scene(partitions=1)
        dlq = f"{scene.name}-later"
        scene.stack.create_topic(dlq, 1)
        # The client takes an unknown topic for one that is still being made for that long.
        options = {"kafka.dlq_topic": dlq, "kafka.producer.topic.metadata.propagation.max.ms": 500}
        with scene.worker(**options) as worker:
            worker.wait_ready()
            scene.stack.delete_topic(dlq)
            wait_until(lambda: partition_count(scene.stack.brokers, dlq) == 0, 10, f"{dlq} is still there")
            self.assert_waits_for_dlq(scene, worker, dlq, lambda: scene.stack.create_topic(dlq, 1))

    # naughty strings

    def naughty(self):
        folder = data_folder()
        path = os.path.join(folder, "blns", "blns.json") if folder else None
        if not path or not os.path.exists(path):
            self.skipTest("blns/blns.json is not here: DW_TEST_DATA names its folder")
        with open(path, encoding="utf-8") as strings:
            return json.load(strings)

    def test_bad_input__naughty_strings_as_reason(self):
        strings = self.naughty()
        scene = self.scene(partitions=2)
        events = [event(f"blns-{i}", reason=text) for i, text in enumerate(strings)]
        scene.send([Record(encode(one), text.encode(), [("text", text.encode())])
            for one, text in zip(events, strings)])
        wanted = {one["order_id"] for one in events if len(one["reason"]) <= 128 and "\0" not in one["reason"]}
        with scene.worker(**{"log.level": "debug"}) as worker:
            metrics = self.assert_moved_on(scene, worker)
            self.assertEqual(metrics.value("records_consumed_total"), len(strings))
            sent = {(record.partition, record.offset): record for record in scene.read()}
            letters = self.letters(scene)
            for place, letter in letters.items():
                self.assert_letter(letter, sent[place], "out_of_range", "reason", worker.pid)
        self.assertEqual({row[0] for row in scene.psql("SELECT order_id FROM order_state")}, wanted)
        self.assertEqual(len(letters), len(strings) - len(wanted))

    def test_bad_input__naughty_strings_as_records(self):
        strings = self.naughty()
        scene = self.scene(partitions=2)
        scene.send([Record(text.encode(), text.encode(), [(f"h{i}", text.encode())]) for i, text in enumerate(strings)])
        good = delivered("good")
        scene.produce([good])
        with scene.worker() as worker:
            self.assert_moved_on(scene, worker)
            sent = {(record.partition, record.offset): record for record in scene.read()
                if record.value != encode(good)}
            letters = self.letters(scene)
            self.assertEqual(set(letters), set(sent))
            for place, letter in letters.items():
                code = letter.header("dw_error_code")
                self.assertIn(code, {"not_json", "not_object", "out_of_range"}, sent[place].value)
                self.assert_letter(letter, sent[place], code, ..., worker.pid)
            self.assertEqual(worker.get("/livez")[0], 200)
            log = worker.log(10000)
            self.assertFalse(re.search(r"[^\x20-\x7e\n]", log), "the log shows bytes of records")
        self.assertEqual(ledger_totals(scene), Expected([good]).totals())


if __name__ == "__main__":
    unittest.main()
