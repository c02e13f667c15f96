"""Runs `delivery-worker decode` and finds the test data."""

import os
import subprocess
import tempfile
import unittest
from collections import namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = os.environ.get("DW_TEST_BUILD", str(ROOT / "build"))
BINARY = os.environ.get("DW_BINARY", os.path.join(BUILD, "delivery-worker"))
SCHEMAS = ROOT / "schemas"

Verdict = namedtuple("Verdict", "code field message")
OK = Verdict("ok", "", "")


def run(arguments, stdin=b"", **environment):
	"""The finished process of `delivery-worker decode ARGUMENTS`."""
	if not os.access(BINARY, os.X_OK):
		raise AssertionError(f"no binary at {BINARY}: build it, or name it in DW_BINARY")
	# The worker refuses DW_ variables that are no options of its own.
	inherited = {name: value for name, value in os.environ.items() if not name.startswith("DW_")}
	return subprocess.run([BINARY, "decode", *arguments], input=stdin, capture_output=True, timeout=120,
						  env={**inherited, **environment})


def parse(process):
	"""One verdict a line of output; anything else is a failure."""
	if process.returncode not in (0, 1):
		raise AssertionError(f"exit {process.returncode}: {process.stderr.decode(errors='replace')}")
	verdicts = []
	for line in process.stdout.decode("ascii").splitlines():
		if line == "ok":
			verdicts.append(OK)
			continue
		code, field, message = line.split(" ", 2)
		if not message:
			raise AssertionError(f"no message: {line}")
		verdicts.append(Verdict(code, "" if field == "-" else field, message))
	if process.returncode != int(any(v.code != "ok" for v in verdicts)):
		raise AssertionError(f"exit {process.returncode} does not fit the verdicts")
	return verdicts


def decode_lines(records, at):
	"""Verdicts on records without newlines, in one process."""
	verdicts = parse(run(["--at", at], b"".join(r + b"\n" for r in records)))
	if len(verdicts) != len(records):
		raise AssertionError(f"{len(records)} records, {len(verdicts)} verdicts")
	return verdicts


def decode_whole(records, at):
	"""Verdicts on records of any bytes, each in a file of its own."""
	with tempfile.TemporaryDirectory() as folder:
		paths = []
		for number, record in enumerate(records):
			path = os.path.join(folder, str(number))
			Path(path).write_bytes(record)
			paths.append(path)
		verdicts = parse(run(["--at", at, "--whole", *paths]))
	if len(verdicts) != len(records):
		raise AssertionError(f"{len(records)} records, {len(verdicts)} verdicts")
	return verdicts


def data(*names):
	"""The path of a test data file; skips the test, with the reason, where it is absent."""
	folder = Path(os.environ.get("DW_TEST_DATA", ROOT.parent / "shared" / "data"))
	path = folder.joinpath(*names)
	if not path.exists():
		reason = f"no test data at {path}: set DW_TEST_DATA"
		print(f"skipped: {reason}")
		raise unittest.SkipTest(reason)
	return path
