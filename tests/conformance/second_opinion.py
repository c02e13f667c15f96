"""What a record's bytes are in the opinion of Python's own JSON parser, and of the contract where it asks for more."""

import json

BYTES_MAX, DEPTH_MAX = 64 * 1024, 8
MALFORMED = {"not_json", "invalid_utf8", "too_deep", "too_large", "duplicate_member"}


class NotJson(Exception):
	pass


def unique(pairs):
	names = [name for name, _ in pairs]
	if len(set(names)) != len(names):
		raise NotJson("duplicate_member")
	return dict(pairs)


def no_constant(name):
	raise NotJson(f"{name} is no JSON")


def strings(value):
	if isinstance(value, str):
		yield value
	for part in [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []:
		yield from strings(part)


def depth(value):
	parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
	return 0 if parts is None else 1 + max(map(depth, parts), default=0)


def opinion(record):
	"""(what the decoder may call it, the value): codes, and a value only where it is JSON that the contract takes."""
	if len(record) > BYTES_MAX:
		return {"too_large"}, None
	if not record or b"\0" in record or record.startswith(b"\xef\xbb\xbf"):
		return {"not_json"}, None
	try:
		text = record.decode("utf-8")
	except UnicodeDecodeError:
		return MALFORMED | {"out_of_range"}, None
	try:
		value = json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
	except (ValueError, NotJson):
		# With several faults, any of their codes: a number or a name may come before.
		return MALFORMED | {"out_of_range"}, None
	codes = set()
	if any("\0" in s or any(0xd800 <= ord(c) < 0xe000 for c in s) for s in strings(value)):
		codes.add("not_json")
	if depth(value) > DEPTH_MAX:
		codes.add("too_deep")
	if beyond_machine_numbers(value):
		codes.add("out_of_range")
	if not codes and not isinstance(value, dict):
		codes.add("not_object")
	return codes, None if codes else value


def beyond_machine_numbers(value):
	if isinstance(value, dict):
		return any(map(beyond_machine_numbers, value.values()))
	if isinstance(value, list):
		return any(map(beyond_machine_numbers, value))
	if isinstance(value, float):
		return value in (float("inf"), float("-inf"))
	return isinstance(value, int) and not -2**63 <= value < 2**63
