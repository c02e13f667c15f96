"""`delivery-worker decode` as a command: records, lines, files, options, exit codes."""

import os
import signal
import tempfile
import unittest
from pathlib import Path

import decoder
from stack.process import as_process_1, process_1_of
from stack.terminal import CONTROL_D, Terminal
from stack.worker import environment

EVENT = b'{"order_id":"o","status":"created","timestamp":"2026-01-01T00:00:00Z"}'
AT = ["--at", "2026-06-01T00:00:00Z"]


class DecodeCommand(unittest.TestCase):
	def codes(self, arguments, stdin=b"", **environment):
		return [v.code for v in decoder.parse(decoder.run(arguments, stdin, **environment))]

	def test_decode__one_line_of_output_a_line_of_input(self):
		for stdin, codes in (
				(b"", []),
				(EVENT, ["ok"]),
				(EVENT + b"\n", ["ok"]),
				(EVENT + b"\r\n" + EVENT + b"\r\n", ["ok", "ok"]),
				(b"\n", ["not_json"]),
				(EVENT + b"\n\n" + EVENT, ["ok", "not_json", "ok"]),
				(b"{}\n[]\n" + EVENT, ["missing_field", "not_object", "ok"]),
				(EVENT[:-1] + b"\x00}\n" + EVENT + b"\n", ["not_json", "ok"])):
			for arguments in ([], ["-"]):
				self.assertEqual(self.codes(AT + arguments, stdin), codes, stdin)

	def test_decode__output_lines(self):
		records = b'[]\n{}\n' + EVENT[:-1] + b',"a b":1,"a b":2}\n' + EVENT
		lines = decoder.run(AT, records).stdout.decode().splitlines()
		self.assertRegex(lines[0], r"^not_object - \S.*")
		self.assertRegex(lines[1], r"^missing_field order_id \S.*")
		self.assertRegex(lines[2], r"^duplicate_member a\\u0020b \S.*")
		self.assertEqual(lines[3], "ok")

	def test_decode__exit_code_tells_whether_any_was_refused(self):
		self.assertEqual(decoder.run(AT, EVENT).returncode, 0)
		self.assertEqual(decoder.run(AT, EVENT + b"\n{}\n" + EVENT).returncode, 1)
		self.assertEqual(decoder.run(AT, b"").returncode, 0)

	def test_decode__a_line_over_64_kib_costs_itself_only(self):
		long = b" " * (20 << 20)
		fits = EVENT + b" " * (65536 - len(EVENT))
		self.assertEqual(self.codes(AT, b"\n".join([EVENT, long, fits, fits + b" ", EVENT])),
						 ["ok", "too_large", "ok", "too_large", "ok"])

	def test_decode__whole_files_are_records(self):
		with tempfile.TemporaryDirectory() as folder:
			paths = []
			for name, content in (("a", EVENT), ("b", b""), ("c", EVENT.replace(b",", b",\n")), ("d", b"x" * 70000),
								  ("e", EVENT + b"\n" + EVENT)):
				paths.append(os.path.join(folder, name))
				Path(paths[-1]).write_bytes(content)
			self.assertEqual(self.codes(AT + ["--whole", *paths]), ["ok", "not_json", "ok", "too_large", "not_json"])
			self.assertEqual(self.codes(AT + [paths[4]]), ["ok", "ok"])

	def test_decode__at_is_the_record_time(self):
		for at, codes in (("2026-01-01T00:00:00Z", ["ok"]), ("2025-12-31T23:55:00Z", ["ok"]),
						  ("2025-12-31T23:54:59.999999Z", ["out_of_range"]), ("2026-01-01T01:00:00+01:00", ["ok"])):
			self.assertEqual(self.codes([f"--at={at}"], EVENT), codes, at)
		future = EVENT.replace(b"2026", b"9000")
		self.assertEqual(self.codes([], EVENT.replace(b"2026", b"2020") + b"\n" + future), ["ok", "out_of_range"])

	def test_decode__unknown_members_option(self):
		record = EVENT[:-1] + b',"x":1}'
		self.assertEqual(self.codes(AT, record), ["ok"])
		self.assertEqual(self.codes(AT, record, DW_EVENT_UNKNOWN_MEMBERS="refuse"), ["unknown_field"])

	def test_decode__usage_errors(self):
		for arguments in (["--at", "yesterday"], ["--at", "1960-01-01T00:00:00Z"], ["--whole"], ["a", "b"],
						  ["/nonexistent/file"], ["/"], ["--whole", "/nonexistent/file"]):
			process = decoder.run(arguments)
			self.assertEqual(process.returncode, 2, arguments)
			self.assertIn(b"delivery-worker decode: ", process.stderr)
			self.assertEqual(process.stdout, b"")

	def test_decode__says_that_it_reads_the_terminal(self):
		with Terminal([decoder.BINARY, "decode", *AT], environment({})) as terminal:
			terminal.wait_for("delivery-worker decode: reads events from the terminal, one a line, until Ctrl-D")
			terminal.type(EVENT + b"\n" + CONTROL_D)
			self.assertEqual(terminal.wait(), 0, terminal.text())
			self.assertIn("\nok\r\n", terminal.text())

	def test_decode__obeys_sigterm_as_process_1(self):
		with Terminal(as_process_1([decoder.BINARY, "decode"]), environment({})) as terminal:
			terminal.wait_for("until Ctrl-D")
			os.kill(process_1_of(terminal.child), signal.SIGTERM)
			self.assertEqual(terminal.wait(), 128 + signal.SIGTERM)


if __name__ == "__main__":
	unittest.main()
