"""The checker's decoder and the worker's pass the same verdicts, whatever the text."""

import json
import random
import re
import tarfile
import unittest
from collections import Counter

import decoder
import test_schema_agrees as agrees
from checker import event

SEED = 20260602
AT_MS = event.parse_time_us(agrees.AT) // 1000

# Texts that are wrong in more than one way: whoever reads from left to right meets one of them first.
BROKEN = [b"", b" ", b"{", b"}", b"[", b"nul", b"{\"a\":1,\"a\":2", b"{\"a\":1e999,", b"{\"a\":99999999999999999999 x",
    b"{\"a\":\"\xff\",", b"\xff{", b"{}\xff", b"\xef\xbb\xbf{}", b"\xef\xbb\xbf", b"{\"a\":\"\\ud800\",\"a\":1}",
    b"{\"a\":\"\\ud800\\ud83d\\ude00\"}", b"{\"a\":\"\\ude00\"}", b"{\"a\":\"\\ud83d\\ude00\"}", b"{\"\\u0000\":1}",
    b"[" * 9, b"[" * 8, b"{\"a\":\"[[[[[[[[[[[\"}", b"{\"a\":\"\\\"[[[[[[[[[[[\"}", b"\"[[[[[[[[[[", b"{\"a\":NaN}",
    b"{\"a\":Infinity}", b"{\"a\":-Infinity}", b"{\"a\":-}", b"{\"a\":01}", b"{\"a\":1.}", b"{\"a\":.5}", b"{\"a\":+1}",
    b"{\"a\":1,}", b"{'a':1}", b"{\"a\" 1}", b"{\"a\":\"\t\"}", b"{\"a\":\"\x7f\"}", b"\x0b{}", b"{}\x0c", b"1", b"1 2",
    b"\"\\ud800\"", b"-9223372036854775808", b"-9223372036854775809", b"1e308", b"1e309", b"{\"a\":1e-999}",
    b"{\"a\":{\"b\":1,\"b\":1}}", b"[{\"b\":1,\"b\":1}]", b"[[[[[[[[[\"\xff", b"{\"a\":\"\xed\xa0\x80\"}",
    b"{\"a\":\"\xc0\x80\"}", b"{\"a\":\"\xf4\x90\x80\x80\"}", b"{\"a\":tru}", b"{\"a\":truex}", b"{} {}", b"{}x"]


def mangled(rng, text):
    """A record's bytes with a piece cut out, doubled or overwritten, once or more often."""
    data = bytearray(text.encode())
    if rng.random() < 0.1:
        data[1:1] = b"\"status\":1,"
    for _ in range(rng.choice([1, 1, 2, 3])):
        at = rng.randrange(len(data) + 1)
        length = rng.choice([1, 1, 2, 5, 20])
        piece = rng.choice([b"", b"", b"\"", b"{", b"}", b"[", b"]", b":", b",", b"\\", b"\\u0000", b"\\ud800", b"\xff",
            b"\xc3", b"1e999", b"-", b"\xef\xbb\xbf", b"[[[[[[[[[",
            bytes(data[at:at + length]) * 2])
        data[at:at + length] = piece
    return bytes(data).replace(b"\n", b"")


class CheckerDecoder(unittest.TestCase):
    def compare(self, records, verdicts, **options):
        seen = Counter()
        for record, verdict in zip(records, verdicts):
            decoded, faults = event.decode(record, [], AT_MS, **options)
            if verdict.code == "ok":
                self.assertEqual(faults, set(), record)
                self.assertIsNotNone(decoded)
            else:
                self.assertIn(verdict.code, faults, record)
                self.assertIsNone(decoded)
            seen[verdict.code] += 1
        print(f"{len(records)} records:", ", ".join(f"{code} {count}" for code, count in sorted(seen.items())))
        return seen

    def test_checker_decoder__agrees_on_generated_events(self):
        records = [record.encode() for record in agrees.corpus()]
        seen = self.compare(records, decoder.decode_lines(records, agrees.AT))
        self.assertGreater(seen["ok"], 500)

    def test_checker_decoder__agrees_on_mangled_text(self):
        rng = random.Random(SEED)
        records = [mangled(rng, agrees.spell(agrees.random_event(rng), rng)) for _ in range(8000)]
        seen = self.compare(records, decoder.decode_lines(records, agrees.AT))
        for code in ("ok", "not_json", "invalid_utf8", "too_deep", "duplicate_member"):
            self.assertGreater(seen[code], 10, seen)

    def test_checker_decoder__agrees_on_broken_text(self):
        pieces = [b"{\"order_id\":\"o\",\"status\":\"created\",\"timestamp\":\"2026-01-01T00:00:00Z\",\"x\":" + tail
            for tail in BROKEN]
        records = BROKEN + pieces + [piece + b"}" for piece in pieces] + [b"{\"x\":\"" + b"a" * 65536 + b"\"}"]
        records += [record + b"\n" for record in BROKEN] + [record + b"\0" for record in BROKEN]
        self.compare(records, decoder.decode_whole(records, agrees.AT))

    def test_checker_decoder__agrees_where_unknown_members_are_refused(self):
        records = [record.encode() for record in agrees.corpus()[:2000]]
        verdicts = decoder.parse(decoder.run(["--at", agrees.AT], b"".join(record + b"\n" for record in records),
            DW_EVENT_UNKNOWN_MEMBERS="refuse"))
        self.assertGreater(self.compare(records, verdicts, refuse_unknown=True)["unknown_field"], 10)

    def test_checker_decoder__agrees_on_the_json_suite(self):
        with tarfile.open(decoder.data("jsontestsuite", "test_parsing.tar.xz")) as archive:
            records = [archive.extractfile(member).read() for member in archive if member.isfile()]
        self.assertGreater(len(records), 300)
        self.compare(records, decoder.decode_whole(records, agrees.AT))

    def test_checker_decoder__envelope(self):
        value = json.dumps({**agrees.MINIMAL, "event_id": "e1", "source": ""}).encode()
        for headers, wanted in [
                ([("ce_id", b"e1"), ("ce_source", b"")], set()), ([("ce_id", b"e2")], {"envelope_mismatch"}),
                ([("ce_id", b"e2"), ("ce_id", b"e1")], set()), ([("ce_id", None)], set()),
                ([("ce_id", b"e2"), ("ce_id", None)], set()), ([("ce_id", b"\xff")], {"invalid_utf8"}),
                ([("ce_source", b"\0")], {"not_json", "envelope_mismatch"}), ([("ce_time", b"\xff")], set()),
                ([("ce_source", b"x" * 129)], {"out_of_range", "envelope_mismatch"}),
                ([("ce_id", b"")], {"out_of_range", "envelope_mismatch"})]:
            self.assertEqual(event.decode(value, headers, AT_MS)[1], wanted, headers)

    def test_checker_decoder__future_is_measured_from_the_record(self):
        value = json.dumps({**agrees.MINIMAL, "timestamp": "2026-01-01T00:05:00.000001Z"}).encode()
        at_ms = event.parse_time_us("2026-01-01T00:00:00Z") // 1000
        for timestamp_ms, wanted in [(at_ms, {"out_of_range"}), (at_ms + 1, set()), (-1, set())]:
            self.assertEqual(event.decode(value, [], timestamp_ms)[1], wanted, timestamp_ms)

    def test_checker_decoder__classes_are_those_that_publishers_are_told(self):
        page = (decoder.SCHEMAS / "PUBLISHERS.md").read_text()
        rows = re.findall(r"^\| `(\w+)` \| ([a-z]+) \|", page, re.M)
        self.assertEqual(dict(rows), event.CLASS_OF)


if __name__ == "__main__":
    unittest.main()
