"""A validator for exactly the JSON Schema (2020-12) keywords that the published schema uses.

A keyword it does not know is an error, not an annotation: the schema must not say anything that the test of
agreement leaves out.
"""

import re

ANNOTATIONS = {"$schema", "$id", "$comment", "$defs", "title", "description", "examples", "default", "format"}


class UnknownKeyword(Exception):
	pass


def is_number(value):
	return isinstance(value, (int, float)) and not isinstance(value, bool)


def same(a, b):
	"""JSON's equality: 1 is 1.0, but true is not 1."""
	if isinstance(a, bool) or isinstance(b, bool):
		return a is b
	if type(a) is not type(b) and not (is_number(a) and is_number(b)):
		return False
	return a == b


TYPES = {
	"object": lambda v: isinstance(v, dict),
	"array": lambda v: isinstance(v, list),
	"string": lambda v: isinstance(v, str),
	"null": lambda v: v is None,
	# As the specification has it: 1.0 is an integer.
	"integer": lambda v: is_number(v) and (isinstance(v, int) or v.is_integer()),
}


class Validator:
	def __init__(self, schema):
		self.root = schema
		self.patterns = {}

	def valid(self, value):
		return self.check(self.root, value)

	def check(self, schema, value):
		for keyword, argument in schema.items():
			if keyword in ANNOTATIONS:
				continue
			rule = getattr(self, "rule_" + keyword.replace("$", ""), None)
			if rule is None:
				raise UnknownKeyword(keyword)
			if not rule(argument, value, schema):
				return False
		return True

	def rule_ref(self, pointer, value, _):
		if not pointer.startswith("#/$defs/"):
			raise UnknownKeyword(f"$ref {pointer}")
		return self.check(self.root["$defs"][pointer.removeprefix("#/$defs/")], value)

	def rule_type(self, types, value, _):
		return any(TYPES[name](value) for name in ([types] if isinstance(types, str) else types))

	def rule_enum(self, members, value, _):
		return any(same(member, value) for member in members)

	def rule_const(self, constant, value, _):
		return same(constant, value)

	def rule_not(self, schema, value, _):
		return not self.check(schema, value)

	def rule_required(self, names, value, _):
		return not isinstance(value, dict) or all(name in value for name in names)

	def rule_dependentRequired(self, dependencies, value, _):
		return not isinstance(value, dict) or all(
			name in value for trigger, names in dependencies.items() if trigger in value for name in names)

	def rule_properties(self, schemas, value, _):
		return not isinstance(value, dict) or all(
			self.check(schema, value[name]) for name, schema in schemas.items() if name in value)

	def rule_additionalProperties(self, schema, value, parent):
		known = parent.get("properties", {})
		return not isinstance(value, dict) or all(
			self.check(schema, member) for name, member in value.items() if name not in known)

	def rule_propertyNames(self, schema, value, _):
		return not isinstance(value, dict) or all(self.check(schema, name) for name in value)

	def rule_items(self, schema, value, _):
		return not isinstance(value, list) or all(self.check(schema, item) for item in value)

	def rule_pattern(self, pattern, value, _):
		if not isinstance(value, str):
			return True
		if pattern not in self.patterns:
			# ECMA 262's $ is the end alone; Python's would let a newline follow.
			self.patterns[pattern] = re.compile(re.sub(r"\$$", r"\\Z", pattern))
		return self.patterns[pattern].search(value) is not None

	def rule_minLength(self, least, value, _):
		return not isinstance(value, str) or len(value) >= least

	def rule_maxLength(self, most, value, _):
		return not isinstance(value, str) or len(value) <= most

	def rule_minimum(self, least, value, _):
		return not is_number(value) or value >= least

	def rule_maximum(self, most, value, _):
		return not is_number(value) or value <= most
