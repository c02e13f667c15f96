"""The decoder's JSON against JSONTestSuite: y_ well-formed, n_ malformed, i_ up to the implementation."""

import tarfile
import unittest

import decoder

AT = "2026-06-01T00:00:00Z"

# What an n_ file may be called, and a y_ file may not.
MALFORMED = {"not_json", "invalid_utf8", "too_deep", "too_large"}
# None of the y_ files is an event: each is refused for what it lacks.
LACKING = {"not_object", "missing_field"}

# Where the contract differs from the suite, or another of several faults is named.
DIFFERENCES = {
	"y_object_duplicated_key.json": ("duplicate_member", "legal JSON, but which of the two counts is anybody's guess"),
	"y_object_duplicated_key_and_value.json": ("duplicate_member", "the same, with equal values"),
	"y_object_escaped_null_in_key.json": ("not_json", "U+0000 is refused: PostgreSQL's text cannot hold it"),
	"y_string_null_escape.json": ("not_json", "U+0000 is refused: PostgreSQL's text cannot hold it"),
	"n_object_non_string_key_but_huge_number_instead.json":
		("out_of_range", "two faults: the number that cannot be held comes before the missing name"),
}

# Up to the implementation, so settled here. All others of the i_ files hold what is not UTF-8 or a lone surrogate.
CHOICES = {
	"i_number_double_huge_neg_exp.json": "not_object",  # 123.456e-789 is 0: no overflow
	"i_number_real_underflow.json": "not_object",
	"i_number_huge_exp.json": "out_of_range",
	"i_number_neg_int_huge_exp.json": "out_of_range",
	"i_number_pos_double_huge_exp.json": "out_of_range",
	"i_number_real_neg_overflow.json": "out_of_range",
	"i_number_real_pos_overflow.json": "out_of_range",
	"i_number_too_big_neg_int.json": "out_of_range",
	"i_number_too_big_pos_int.json": "out_of_range",
	"i_number_very_big_negative_int.json": "out_of_range",
	"i_structure_500_nested_arrays.json": "too_deep",
}


class JsonSuite(unittest.TestCase):
	@classmethod
	def setUpClass(cls):
		cls.files = {}
		with tarfile.open(decoder.data("jsontestsuite", "test_parsing.tar.xz")) as archive:
			for member in archive:
				if member.isfile():
					cls.files[member.name.rsplit("/", 1)[-1]] = archive.extractfile(member).read()
		cls.verdicts = dict(zip(cls.files, decoder.decode_whole(cls.files.values(), AT)))

	def names(self, prefix, count):
		names = [name for name in self.files if name.startswith(prefix)]
		self.assertEqual(len(names), count)
		return names

	def expect(self, name, codes):
		if name in DIFFERENCES:
			codes = {DIFFERENCES[name][0]}
		self.assertIn(self.verdicts[name].code, codes, f"{name}: {self.verdicts[name]}")

	def test_json__well_formed_is_refused_for_what_it_lacks(self):
		for name in self.names("y_", 95):
			self.expect(name, LACKING)

	def test_json__malformed_is_called_malformed(self):
		for name in self.names("n_", 188):
			self.expect(name, MALFORMED)

	def test_json__choices_are_settled(self):
		for name in self.names("i_", 35):
			self.expect(name, {CHOICES[name]} if name in CHOICES else {"not_json", "invalid_utf8"})

	def test_json__differences_name_files(self):
		self.assertLessEqual(set(DIFFERENCES) | set(CHOICES), set(self.files))

	def test_json__deep_nesting_within_the_size_is_too_deep(self):
		deep = [b"[" * 65536, b'{"a":' * 13107, b'{"a":"[[[[[[[[[[","b":' * 9]
		self.assertEqual([v.code for v in decoder.decode_whole(deep, AT)], ["too_deep"] * 3)

	def test_json__unknown_members_take_any_well_formed_value(self):
		"""The y_ files once more, inside of an event: all are accepted but for the listed."""
		names = self.names("y_", 95)
		start = b'{"order_id":"o","status":"created","timestamp":"2026-01-01T00:00:00Z","x":'
		verdicts = decoder.decode_whole([start + self.files[name] + b"}" for name in names], AT)
		for name, verdict in zip(names, verdicts):
			self.assertEqual(verdict.code, DIFFERENCES[name][0] if name in DIFFERENCES else "ok", name)


if __name__ == "__main__":
	unittest.main()
