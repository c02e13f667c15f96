"""schemas/PUBLISHERS.md: each example is what it says it is, and nothing of the contract is left out."""

import json
import re
import unittest

import decoder

AT = "2026-06-01T00:00:00Z"
# Of these an event alone is no example: the decoder sees neither the headers nor what came before.
BEYOND_THE_EVENT = {"envelope_mismatch", "order_conflict"}
NO_EXAMPLE = {"tombstone", "too_large", "database_rejected"}


class PublishersPage(unittest.TestCase):
	@classmethod
	def setUpClass(cls):
		cls.page = (decoder.SCHEMAS / "PUBLISHERS.md").read_text(encoding="utf-8")
		cls.examples = re.findall(r"^```json (\w+)[^\n]*\n(.*?)\n```$", cls.page, re.M | re.S)
		header = (decoder.SCHEMAS / "error_code.h").read_text()
		cls.codes = dict(re.findall(r'X\([A-Z0-9_]+, "(\w+)", "(\w+)"\)', header))

	def test_page__examples_are_judged_as_they_say(self):
		for code, text in self.examples:
			records = [line.encode().replace(b"\\xe9", b"\xe9") for line in text.splitlines()]
			wanted = "ok" if code == "accepted" or code in BEYOND_THE_EVENT else code
			options = {"DW_EVENT_UNKNOWN_MEMBERS": "refuse"} if code == "unknown_field" else {}
			process = decoder.run(["--at", AT], b"".join(r + b"\n" for r in records), **options)
			self.assertEqual([v.code for v in decoder.parse(process)], [wanted] * len(records), text)

	def test_page__every_code_is_listed_with_its_class(self):
		listed = dict(re.findall(r"^\| `(\w+)` \| (malformed|invalid|conflict|database) \|", self.page, re.M))
		self.assertEqual(listed, self.codes)

	def test_page__every_code_has_an_example(self):
		self.assertEqual({code for code, _ in self.examples} - {"accepted"}, set(self.codes) - NO_EXAMPLE)

	def test_page__statuses_and_members_are_those_of_the_schema(self):
		schema = json.loads((decoder.SCHEMAS / "delivery-event.v1.schema.json").read_text())
		statuses = re.findall(r"^\| `(\w+)` \| \d+ \|", self.page, re.M)
		self.assertEqual(statuses, schema["properties"]["status"]["enum"])
		members = self.page.split("## Members")[1].split("##")[0]
		self.assertEqual(set(re.findall(r"^\| `(\w+)` \|", members, re.M)), set(schema["properties"]))

	def test_page__kcat_examples_send_events(self):
		records = re.findall(r"printf 'o-1001\\t(\{.*\})\\n'", self.page)
		self.assertEqual(len(records), 2)
		self.assertEqual([v.code for v in decoder.decode_lines([r.encode() for r in records], AT)], ["ok", "ok"])


if __name__ == "__main__":
	unittest.main()
