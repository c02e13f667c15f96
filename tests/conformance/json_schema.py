"""The published schema as an independent validator has it: the jsonschema package, under an interpreter that has it.

Debian's package is seen by Debian's Python, which need not be the one that runs the tests; so this file is also a
program, which that one runs: SCHEMA FILE as its argument, a JSON text a line in, a line "valid" or "invalid" each out.
"""

import json
import os
import re
import subprocess
import sys

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ANNOTATIONS = {"$schema", "$id", "$comment", "$defs", "title", "description", "examples", "default", "format"}
# Whose values are schemas by name, or a list of names by name: the keys in between are no keywords.
BY_NAME = {"properties", "$defs", "dependentRequired"}


class NoValidator(Exception):
	pass


class UnknownKeyword(Exception):
	pass


def interpreter():
	"""One that can import jsonschema; none is an error, as a test that went without would prove nothing."""
	for python in (sys.executable, "/usr/bin/python3", "python3"):
		try:
			done = subprocess.run([python, "-c", "from jsonschema import Draft202012Validator"], capture_output=True)
		except OSError:
			continue
		if done.returncode == 0:
			return python
	raise NoValidator("no Python here has jsonschema 4 or later: tests/deps.sh test installs it")


def valid(path, texts):
	"""Whether each JSON text is valid under the schema in the file at `path`."""
	done = subprocess.run([interpreter(), os.path.abspath(__file__), str(path)], capture_output=True, timeout=240,
		input="".join(text + "\n" for text in texts).encode())
	if done.returncode != 0:
		raise NoValidator(done.stderr.decode(errors="replace"))
	answers = done.stdout.decode().split()
	if len(answers) != len(texts) or not {"valid", "invalid"} >= set(answers):
		raise NoValidator(f"{len(texts)} texts, {len(answers)} answers")
	return [answer == "valid" for answer in answers]


def keywords(schema):
	"""Every keyword in it, wherever it stands."""
	if isinstance(schema, list):
		return set().union(*map(keywords, schema))
	if not isinstance(schema, dict):
		return set()
	found = set(schema)
	for keyword, value in schema.items():
		if keyword in BY_NAME:
			found |= set().union(*map(keywords, value.values())) if keyword != "dependentRequired" else set()
		elif keyword not in {"enum", "const", "examples", "default"}:
			found |= keywords(value)
	return found


def for_python(schema):
	"""Patterns are ECMA 262's, where $ is the end alone: Python's would let a newline follow."""
	if isinstance(schema, list):
		return list(map(for_python, schema))
	if not isinstance(schema, dict):
		return schema
	return {keyword: re.sub(r"\$$", r"\\Z", value) if keyword == "pattern" and isinstance(value, str)
			else for_python(value) for keyword, value in schema.items()}


def make_validator(schema):
	"""A keyword that the validator does not enforce must be a known annotation: the schema says nothing unheard."""
	from jsonschema import Draft202012Validator

	if schema.get("$schema") != DIALECT:
		raise UnknownKeyword(f"$schema {schema.get('$schema')}")
	unknown = keywords(schema) - set(Draft202012Validator.VALIDATORS) - ANNOTATIONS
	if unknown:
		raise UnknownKeyword(", ".join(sorted(unknown)))
	Draft202012Validator.check_schema(schema)
	return Draft202012Validator(for_python(schema))


def main():
	with open(sys.argv[1], encoding="utf-8") as file:
		validator = make_validator(json.load(file))
	for line in sys.stdin.buffer:
		print("valid" if validator.is_valid(json.loads(line)) else "invalid")


if __name__ == "__main__":
	main()
