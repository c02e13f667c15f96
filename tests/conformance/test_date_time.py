"""Event timestamps against the RFC 3339 vectors of the JSON Schema test suite."""

import json
import unittest

import decoder

AT = "2026-06-01T00:00:00Z"

# Valid RFC 3339 that the contract refuses.
STRICTER = {
	"1998-12-31T23:59:60Z": "no leap second: it has no place in a count of seconds",
	"1998-12-31T15:59:60.123-08:00": "no leap second",
	"1963-06-19t08:30:06.283185z": "upper case only: one spelling of each time",
	"1985-04-12T00:59:59.999999999999999Z": "at most 9 fraction digits",
}


class DateTime(unittest.TestCase):
	@classmethod
	def setUpClass(cls):
		groups = json.loads(decoder.data("json-schema-formats", "date-time.json").read_text())
		tests = [test for group in groups for test in group["tests"] if isinstance(test["data"], str)]
		records = [json.dumps({"order_id": "o", "status": "created", "timestamp": test["data"]}).encode()
				   for test in tests]
		cls.results = list(zip(tests, decoder.decode_lines(records, AT)))

	def test_date_time__agrees_on_form(self):
		accepted = 0
		for test, verdict in self.results:
			well_formed = test["valid"] and test["data"] not in STRICTER
			# The vectors lie before 2000, so a good form is told by the refusal of the year.
			code = "out_of_range" if well_formed else "bad_format"
			self.assertEqual((verdict.code, verdict.field), (code, "timestamp"), test)
			accepted += well_formed
		self.assertGreaterEqual(accepted, 4)

	def test_date_time__each_difference_is_a_vector(self):
		self.assertEqual(set(STRICTER), {t["data"] for t, _ in self.results if t["valid"]} & set(STRICTER))

	def test_date_time__the_same_forms_of_today_are_accepted(self):
		"""The well-formed vectors with their year moved to 2020: leap days aside, the same calendar."""
		texts = ["2020" + t["data"][4:] for t, _ in self.results if t["valid"] and t["data"] not in STRICTER]
		records = [json.dumps({"order_id": "o", "status": "created", "timestamp": text}).encode() for text in texts]
		for text, verdict in zip(texts, decoder.decode_lines(records, AT)):
			self.assertEqual(verdict, decoder.OK, text)


if __name__ == "__main__":
	unittest.main()
