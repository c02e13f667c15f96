"""The published JSON Schema and the decoder pass the same verdicts, on what JSON Schema can say."""

import json
import random
import re
import tempfile
import unittest
from collections import Counter
from datetime import datetime, timedelta

import decoder
import json_schema
import mutation
from second_opinion import beyond_machine_numbers, opinion

AT = "2026-06-01T00:00:00Z"
SEED = 20260601
RECORDS = 8000
MUTATED = 8000

FULL = {
	"order_id": "o-1", "status": "delivered", "timestamp": "2026-01-31T20:59:59.123456-03:00", "driver_id": "d-1",
	"event_id": "e-1", "schema_version": 1, "customer_id": "c-1", "partner_id": "p-1", "amount_minor": 7289,
	"currency": "BRL", "refunded_total_minor": 0, "attempt": 1, "reason": "", "source": "shop",
}
MINIMAL = {name: FULL[name] for name in ("order_id", "status", "timestamp")}


class Token(str):
	"""JSON text that json.dumps would spell in another way."""


def nested(levels, inner):
	for level in range(levels):
		inner = [inner] if level % 2 else {"n": inner}
	return inner


TEXTS = ["", "a", "a b", "é", "🚀", "a\n", "\n", "A" * 64, "A" * 65, "é" * 64, "🚀" * 65, "x" * 128, "x" * 129,
		 "🚀" * 128, "🚀" * 129, "BRL", "PTS", "brl", "BRLX", "BR", "ÄÖÜ", "BRL\n", "null", "1", "created", "Created",
		 "returned", "created ", "a\u0000b", "\u0000", "\u007f\u0080\ufeff", "{}", "[", "\"", "\\", "A-z_0:9."]
NUMBERS = [0, 1, -1, 2, 50, 99, 100, 257, 7289, 2**53 - 1, 2**53, 2**63 - 1, -2**63, 2**63, -2**63 - 1, 10**30,
		   Token("-0"), Token("1.0"), Token("1e0"), Token("10.0"), Token("1e3"), Token("1.5"), Token("0.0"),
		   Token("-0.0"), Token("9007199254740991.0"), Token("1e15"), Token("1e17"), Token("1e300"), Token("1e309"),
		   Token("-1e400"), Token("1e-400")]
OTHERS = [None, True, False, [], {}, [1], {"order_id": 1}, nested(6, 0), nested(7, 0), nested(8, 0), nested(7, {}),
		  nested(6, "\u0000"), nested(3, "x" * 200), {"\u0000": 1}, [{"a": [2**63]}], [Token("1e309")]]
TIMES = ["2000-01-01T00:00:00Z", "1999-12-31T23:59:59Z", "1999-12-31T23:59:59-00:01", "1999-12-31T00:00:00-23:59",
		 "1999-12-30T23:59:59-23:59", "2000-01-01T00:00:00+00:01", "2026-06-01T00:05:00Z", "2026-06-01T00:05:01Z",
		 "2026-06-01T03:05:00+03:00", "2100-02-29T00:00:00Z", "2024-02-29T00:00:00Z", "2023-02-29T00:00:00Z",
		 "2400-02-29T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-31T20:59:60Z", "2026-01-31T24:00:00Z",
		 "2026-01-31T20:59:59.Z", "2026-01-31T20:59:59.123456789Z", "2026-01-31T20:59:59.1234567891Z",
		 "2026-01-31T20:59:59+24:00", "2026-01-31T20:59:59-00:60", "2026-01-31 20:59:59Z", "2026-01-31t20:59:59z",
		 "2026-04-31T00:00:00Z", "2026-00-10T00:00:00Z", "2026-13-10T00:00:00Z", "2026-01-00T00:00:00Z",
		 "2026-01-31T20:59:59Z\n", "2026-1-31T20:59:59Z", "2026-01-31T20:59Z", "2026-01-31", "", "now"]
NAMES = list(FULL) + ["note", "Order_id", "", "ключ", "a\u0000", "a b"]


def random_time(rng):
	"""Mostly real, of all years, months, days: the pattern's calendar against the decoder's."""
	return "%04d-%02d-%02dT%02d:%02d:%02d%s%s" % (
		rng.choice([1999, 2000, 2004, 2023, 2024, 2025, 2026, 2100, 2096, 2400, 8400, 9996, rng.randrange(10000)]),
		rng.randrange(14), rng.choice([1, 28, 29, 30, 31, rng.randrange(33)]), rng.randrange(25), rng.randrange(61),
		rng.randrange(61), rng.choice(["", "", ".5", ".000001", ".123456789"]),
		rng.choice(["Z", "+00:00", "-%02d:%02d" % (rng.randrange(25), rng.randrange(61)), "+05:30"]))


def scribble(rng, text):
	"""One character gone, doubled or replaced."""
	at = rng.randrange(len(text) + 1)
	return rng.choice([text[:at] + text[at + 1:], text[:at] + text[max(at - 1, 0):],
					   text[:at] + rng.choice("0123456789TZ+-:. tzé\n\u0000") + text[at + 1:]])


def random_value(rng, name, value):
	kind = rng.random()
	if name == "timestamp" and kind < 0.7:
		return rng.choice([rng.choice(TIMES), random_time(rng)])
	if isinstance(value, str) and kind < 0.4:
		return scribble(rng, value)
	if isinstance(value, int) and kind < 0.4:
		return rng.choice(NUMBERS)
	return rng.choice(rng.choice([TEXTS, NUMBERS, OTHERS]))


def random_event(rng):
	event = dict(rng.choice([FULL, FULL, MINIMAL]))
	for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
		change = rng.random()
		if change < 0.2:
			event.pop(rng.choice(list(FULL)), None)
		else:
			name = rng.choice(NAMES) if change < 0.6 else rng.choice(list(event) or NAMES)
			event[name] = random_value(rng, name, event.get(name))
	items = list(event.items())
	rng.shuffle(items)
	return dict(items)


def spell(value, rng):
	"""JSON text, with Tokens as they are and non-ASCII in either spelling."""
	if isinstance(value, Token):
		return str(value)
	if isinstance(value, dict):
		return "{" + ",".join(f"{spell(k, rng)}:{spell(v, rng)}" for k, v in value.items()) + "}"
	if isinstance(value, list):
		return "[" + ",".join(spell(item, rng) for item in value) + "]"
	return json.dumps(value, ensure_ascii=rng.random() < 0.5)


def corpus():
	rng = random.Random(SEED)
	records = [spell(random_event(rng), rng) for _ in range(RECORDS)]
	records += [spell({**FULL, name: value}, rng) for name in FULL for pool in (TEXTS, NUMBERS, OTHERS, TIMES)
				for value in pool]
	records += ["[]", "1", "null", '"a"', "{}", "[{}]"]
	return records


def instant_us(text):
	match = re.fullmatch(r"(.{19})(?:\.([0-9]+))?(Z|([+-])(..):(..))", text)
	stamp = datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%S") - datetime(1970, 1, 1)
	offset = timedelta(hours=int(match[5]), minutes=int(match[6])) if match[4] else timedelta()
	whole = stamp + offset if match[4] == "-" else stamp - offset
	return whole // timedelta(microseconds=1) + int(((match[2] or "") + "000000")[:6])


def beyond_schema(value, verdict):
	"""What the schema's $comment lists: why the decoder may refuse what the schema takes. None: it may not."""
	member = value.get(verdict.field)
	if verdict.code == "wrong_type" and isinstance(member, float) and member.is_integer():
		return "an integer spelled with fraction or exponent"
	if verdict.code == "out_of_range" and verdict.field == "timestamp":
		at = instant_us(member)
		if at < instant_us("2000-01-01T00:00:00Z") or at > instant_us(AT) + 5 * 60 * 10**6:
			return "an instant out of bounds"
	if verdict.code == "out_of_range" and beyond_machine_numbers(value):
		return "a number beyond int64 or double"
	return None


class SchemaAgrees(unittest.TestCase):
	@classmethod
	def setUpClass(cls):
		cls.path = decoder.SCHEMAS / "delivery-event.v1.schema.json"
		cls.schema = json.loads(cls.path.read_text())

	def test_schema__agrees_with_the_decoder(self):
		records = corpus()
		# Where bytes were changed and it is JSON still: spellings and values that nobody listed.
		changed = mutation.mutate(random.Random(SEED), [r.encode() for r in records if "\n" not in r], MUTATED)
		records += [record.decode() for record in changed if opinion(record)[1] is not None]
		verdicts = decoder.decode_lines([r.encode() for r in records], AT)
		seen = Counter()
		for record, verdict, valid in zip(records, verdicts, json_schema.valid(self.path, records)):
			value = json.loads(record)
			if valid == (verdict.code == "ok"):
				seen["both accept" if valid else verdict.code] += 1
				continue
			reason = beyond_schema(value, verdict) if valid else None
			self.assertIsNotNone(reason, f"schema {'accepts' if valid else 'refuses'}, decoder: {verdict}: {record}")
			seen[reason] += 1
		# A corpus that reaches only some rules proves only those.
		for kind in ("not_object", "missing_field", "wrong_type", "bad_format", "out_of_range", "unknown_status",
					 "unsupported_version", "too_deep", "not_json", "an integer spelled with fraction or exponent",
					 "an instant out of bounds", "a number beyond int64 or double"):
			self.assertGreaterEqual(seen[kind], 3, f"{kind}: {seen}")
		self.assertGreater(seen["both accept"], RECORDS // 10, seen)
		print(f"{len(records)} records:", ", ".join(f"{kind} {count}" for kind, count in sorted(seen.items())))

	def test_schema__agrees_on_the_calendar(self):
		days = [f"{year}-02-29" for year in range(2000, 10000)]
		days += [f"{year}-{month:02}-{day:02}" for year in (2000, 2023, 2024) for month in range(14)
				 for day in (0, 1, 9, 10, 19, 20, 28, 29, 30, 31, 32)]
		events = [{**MINIMAL, "timestamp": day + "T12:00:00Z"} for day in days]
		records = [json.dumps(event) for event in events]
		verdicts = decoder.decode_lines([record.encode() for record in records], "9999-12-31T00:00:00Z")
		for event, verdict, valid in zip(events, verdicts, json_schema.valid(self.path, records)):
			self.assertEqual(valid, verdict.code == "ok", event)

	def test_schema__examples_are_events(self):
		records = [json.dumps(e) for e in self.schema["examples"]]
		for record, verdict in zip(records, decoder.decode_lines([r.encode() for r in records], AT)):
			self.assertEqual(verdict, decoder.OK, record)
		self.assertTrue(all(json_schema.valid(self.path, records)))

	def test_schema__every_member_is_described(self):
		self.assertEqual(set(self.schema["properties"]), set(FULL))
		for name, member in self.schema["properties"].items():
			self.assertTrue(member.get("description"), name)

	def test_validator__refuses_a_keyword_it_does_not_enforce(self):
		for extra in ({"minimun": 1}, {"properties": {"a": {"contentSchema": {}}}}, {"items": [{"x-note": "y"}]}):
			with self.subTest(extra), tempfile.NamedTemporaryFile("w", suffix=".json") as file:
				json.dump({"$schema": json_schema.DIALECT, **extra}, file)
				file.flush()
				with self.assertRaisesRegex(json_schema.NoValidator, "UnknownKeyword"):
					json_schema.valid(file.name, ["{}"])


if __name__ == "__main__":
	unittest.main()
