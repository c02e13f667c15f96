"""The Big List of Naughty Strings, as `reason` and raw as a record: accepted, or refused by a stated rule."""

import json
import unittest

import decoder

AT = "2026-06-01T00:00:00Z"
EVENT = {"order_id": "o", "status": "created", "timestamp": "2026-01-01T00:00:00Z"}


def expected_reason(text):
	"""The rules for `reason`, as the contract states them."""
	if "\0" in text:
		return ("not_json", "")
	return ("out_of_range", "reason") if len(text) > 128 else ("ok", "")


def expected_id(text):
	"""The rules for `customer_id`; a text with a wrong character and a wrong length may be called either."""
	alphabet = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-")
	faults = set()
	if "\0" in text:
		faults.add("not_json")
	if not set(text) <= alphabet:
		faults.add("bad_format")
	if not 1 <= len(text) <= 64:
		faults.add("out_of_range")
	return faults or {"ok"}


def is_json(text):
	try:
		json.loads(text, parse_constant=float.__new__)
		return True
	except (ValueError, TypeError):
		return False


class NaughtyStrings(unittest.TestCase):
	@classmethod
	def setUpClass(cls):
		cls.strings = json.loads(decoder.data("blns", "blns.json").read_text(encoding="utf-8"))

	def test_naughty__as_reason(self):
		for ascii_only in (True, False):
			records = [json.dumps({**EVENT, "reason": s}, ensure_ascii=ascii_only).encode() for s in self.strings]
			accepted = 0
			for text, verdict in zip(self.strings, decoder.decode_lines(records, AT)):
				self.assertEqual((verdict.code, verdict.field), expected_reason(text), repr(text))
				accepted += verdict.code == "ok"
			self.assertGreater(accepted, 400)

	def test_naughty__as_customer_id(self):
		records = [json.dumps({**EVENT, "customer_id": s}).encode() for s in self.strings]
		for text, verdict in zip(self.strings, decoder.decode_lines(records, AT)):
			self.assertIn(verdict.code, expected_id(text), repr(text))

	def test_naughty__as_member_name(self):
		"""An unknown name is ignored, or named in the refusal so that JSON reads it back."""
		names = [s for s in self.strings if "\0" not in s]
		records = [json.dumps({**EVENT, name: 1}).encode() for name in names]
		for name, verdict in zip(names, decoder.decode_lines(records, AT)):
			self.assertEqual(verdict, decoder.OK, repr(name))
		process = decoder.run(["--at", AT], b"".join(r + b"\n" for r in records), DW_EVENT_UNKNOWN_MEMBERS="refuse")
		for name, verdict in zip(names, decoder.parse(process)):
			self.assertEqual(verdict.code, "unknown_field", repr(name))
			shown = json.loads(f'"{verdict.field}"')
			# "-" is how the command prints that no name is known; the empty name looks the same.
			self.assertTrue(shown == name or verdict.field.endswith("...") and name.startswith(shown[:-3]),
							f"{name!r} shown as {verdict.field}")

	def test_naughty__raw_as_record(self):
		records = [s.encode() for s in self.strings]
		for text, verdict in zip(self.strings, decoder.decode_whole(records, AT)):
			if text.startswith("\ufeff") or "\0" in text or not is_json(text):
				self.assertEqual(verdict.code, "not_json", repr(text))
			else:
				self.assertIn(verdict.code, ("not_object", "missing_field", "out_of_range"), repr(text))


if __name__ == "__main__":
	unittest.main()
