"""What is JSON and what is not, in the opinion of Python's own parser: on events, and on events with bytes changed."""

import random
import unittest
from collections import Counter

import decoder
import mutation
from second_opinion import MALFORMED, opinion
from test_schema_agrees import AT, corpus

SEED = 20261125
RECORDS = 20000


class JsonText(unittest.TestCase):
	@classmethod
	def setUpClass(cls):
		texts = [record.encode() for record in corpus()]
		cls.records = texts + mutation.mutate(random.Random(SEED), [t for t in texts if b"\n" not in t], RECORDS)
		cls.verdicts = decoder.decode_lines(cls.records, AT)

	def test_json__the_decoder_agrees_with_python(self):
		seen = Counter()
		for record, verdict in zip(self.records, self.verdicts):
			codes, value = opinion(record)
			if value is None:
				self.assertIn(verdict.code, codes, f"{verdict}: {record}")
			else:
				self.assertNotIn(verdict.code, MALFORMED | {"not_object"}, f"{verdict}: {record}")
			seen[verdict.code if value is None else "taken as JSON"] += 1
		for kind in MALFORMED - {"too_large"} | {"not_object", "out_of_range", "taken as JSON"}:
			self.assertGreaterEqual(seen[kind], 5, f"{kind}: {seen}")
		print(", ".join(f"{kind} {count}" for kind, count in sorted(seen.items())))

	def test_json__accepted_is_what_python_reads(self):
		"""Not only the same verdict: nothing is accepted that lacks a member, in Python's reading."""
		accepted = 0
		for record, verdict in zip(self.records, self.verdicts):
			if verdict.code != "ok":
				continue
			_, value = opinion(record)
			self.assertLessEqual({"order_id", "status", "timestamp"}, set(value), record)
			accepted += 1
		self.assertGreater(accepted, 1000)


if __name__ == "__main__":
	unittest.main()
