"""Options through the real binary: what is wrong is named, with its value and its bound, by the right exit code."""

import os
import re
import signal
import subprocess
import tempfile
import unittest

from stack import ROOT, binary

USAGE, CONFIG = 2, 78


def environment(variables=None):
    return {**{key: value for key, value in os.environ.items() if not key.startswith("DW_")}, **(variables or {})}


def run(*arguments, variables=None):
    return subprocess.run([binary(), *arguments], env=environment(variables), cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=30)


def rows():
    """The rows of the reference, as dictionaries."""
    table = [line for line in run("help", "options", "--markdown").stdout.splitlines() if line.startswith("| `")]
    names = ("key", "variable", "default", "bounds", "unit", "help")
    return [dict(zip(names, (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]))) for line in table]


class TestCliOptions(unittest.TestCase):
    def assert_refused(self, done, code, *says):
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.stderr.count("\n"), 1, f"one line expected: {done.stderr!r}")
        self.assertTrue(done.stderr.startswith("delivery-worker"), done.stderr)
        for text in says:
            self.assertIn(text, done.stderr)

    def test_cli_options__unknown_flag(self):
        for command in ("run", "check", "migrate", "produce", "lag"):
            with self.subTest(command):
                self.assert_refused(run(command, "--batch.mx", "5"), USAGE, f"delivery-worker {command}:", "--batch.mx",
                    "--batch.max")

    def test_cli_options__missing_value(self):
        for arguments in (("--batch.max",), ("--batch.max", "--workers=2")):
            with self.subTest(arguments):
                self.assert_refused(run("run", *arguments), USAGE, "--batch.max needs a value", "1 to 10000 records")

    def test_cli_options__value_out_of_range_from_every_source(self):
        for key, value, bound in (
            ("batch.max", "0", "1 to 10000"), ("batch.max", "10001", "1 to 10000"), ("batch.max", "1x", "1 to 10000"),
            ("batch.max", "", "1 to 10000"), ("batch.max", "99999999999999999999", "1 to 10000"),
            ("inflight.max_bytes", "1k", "1048576 to 1073741824"), ("shutdown.timeout", "2h", "1 to 3600"),
            ("log.format", "xml", "logfmt|json"), ("kafka.topic", "t" * 241, "1 to 240"),
        ):
            shown = f'"{value[:80]}'
            variable = "DW_" + key.upper().replace(".", "_")
            with self.subTest(key=key, value=value):
                self.assert_refused(run("run", f"--{key}={value}"), CONFIG, key, shown, bound, f"(--{key})")
                self.assert_refused(run("run", variables={variable: value}), CONFIG, key, shown, bound, f"({variable})")
                with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
                    file.write(f"# first line\n{key} = {value}\n")
                    file.flush()
                    self.assert_refused(run("run", "--config", file.name), CONFIG, key, shown, bound,
                        f"({file.name}:2)")

    def test_cli_options__bad_file_line(self):
        for text, says in (
            ("workers = 1\n\nnonsense\n", ":3: not of the form"),
            ("worker = 1\n", ':1: unknown option "worker"; did you mean workers?'),
            ("workers = 1\nworkers = 2\n", ":2: workers is already set"),
        ):
            with self.subTest(text), tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
                file.write(text)
                file.flush()
                self.assert_refused(run("run", "--config", file.name), CONFIG, file.name + says)
                self.assert_refused(run("run", variables={"DW_CONFIG": file.name}), CONFIG, file.name + says)
        self.assert_refused(run("run", "--config=/nonexistent"), CONFIG, "/nonexistent", "No such file")

    def test_cli_options__unknown_variable(self):
        self.assert_refused(run("run", variables={"DW_BATCH_MAXX": "1"}), CONFIG, "DW_BATCH_MAXX",
            "did you mean DW_BATCH_MAX?")
        self.assert_refused(run("run", variables={"DW_NO_SUCH_THING": "1"}), CONFIG, "DW_NO_SUCH_THING")
        self.assert_refused(run("run", variables={"DW_BATCH_MAX_FILE": "/x"}), CONFIG, "DW_BATCH_MAX_FILE")
        self.assertEqual(run("version", variables={"DW_TEST_ANYTHING": "1"}).returncode, 0)

    def test_cli_options__unknown_or_refused_property(self):
        self.assert_refused(run("run", variables={"DW_KAFKA_NO_SUCH_THING": "1"}), CONFIG, "no.such.thing")
        for name in ("enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset", "isolation.level", "acks",
            "request.required.acks", "enable.idempotence", "bootstrap.servers", "group.id",
            "delivery.report.only.error", "partition.assignment.strategy"):
            for side in ("", "consumer.", "producer."):
                with self.subTest(name=name, side=side):
                    self.assert_refused(run("run", f"--kafka.{side}{name}=true"), CONFIG, name)

    def test_cli_options__one_member_name_is_for_one_consumer(self):
        self.assert_refused(run("run", "--consumers=2", "--kafka.group.instance.id=a"), CONFIG,
            "kafka.group.instance.id", "consumers")

    def test_cli_options__secrets_stay_hidden(self):
        with tempfile.NamedTemporaryFile("wb") as file:
            file.write(b"hunter2" * 1000)
            file.flush()
            for variables in ({"DW_PG_DSN_FILE": file.name}, {"DW_REDIS_URL": "hunter2" * 1000}):
                done = run("run", variables=variables)
                self.assert_refused(done, CONFIG, "(hidden)", "4096")
                self.assertNotIn("hunter2", done.stderr)
            self.assert_refused(run("run", variables={"DW_PG_DSN_FILE": file.name, "DW_PG_DSN": "x"}), CONFIG,
                "DW_PG_DSN and DW_PG_DSN_FILE")

    def test_cli_options__unknown_command(self):
        self.assert_refused(run("rnu"), USAGE, '"rnu"', "run")
        self.assert_refused(run("migrat"), USAGE, "did you mean migrate?")
        self.assert_refused(run("--batch.max=1", "run"), USAGE, "the command comes first")
        self.assert_refused(run(), USAGE, "no command")

    def test_cli_options__help_lists_every_option_and_command(self):
        whole = run("--help")
        self.assertEqual((whole.returncode, whole.stderr), (0, ""))
        self.assertEqual(run("-h").stdout, whole.stdout)
        self.assertEqual(run("help").stdout, whole.stdout)
        self.assertGreater(len(rows()), 20)
        for row in rows():
            self.assertIn(f"\n  --{row['key'].strip('`')} ", whole.stdout)
        commands = re.findall(r"^  ([a-z]+) +\S", whole.stdout.partition("exit codes:")[0], re.M)
        for name in ("run", "check", "migrate", "rules", "produce", "decode", "lag", "explain", "audit", "version"):
            self.assertIn(name, commands)
        for name in commands:
            if name == "help":
                continue
            with self.subTest(name):
                done = run(name, "--help", variables={"DW_NO_SUCH_THING": "1"})
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertTrue(done.stdout.startswith(f"usage: delivery-worker {name}"))
                self.assertEqual(run("help", name).stdout, done.stdout)

    def test_cli_options__a_command_shows_the_options_that_it_reads(self):
        kafka = {"kafka.brokers", "kafka.topic", "kafka.deferred_topic"}
        pg = {row["key"].strip("`") for row in rows() if row["key"].startswith("`pg.")}
        log, all_keys = {"log.format", "log.level"}, {row["key"].strip("`") for row in rows()}
        self.assertGreater(len(pg), 3)
        for name, keys in (
                ("run", all_keys), ("check", all_keys), ("version", set()), ("migrate", pg | log), ("rules", pg | log),
                ("decode", {"event.unknown_members"} | log), ("produce", {"kafka.brokers", "kafka.topic"} | log),
                ("lag", kafka | {"kafka.group"} | log),
                ("audit", kafka | pg | log | {"kafka.group", "kafka.dlq_topic", "event.unknown_members"}),
                ("explain", kafka | pg | log | {"kafka.dlq_topic", "event.unknown_members"})):
            with self.subTest(name):
                text = run(name, "--help").stdout
                self.assertEqual({key for key in all_keys if f"\n  --{key} " in text}, keys)
                self.assertEqual("--kafka.<property>" in text, bool(keys & kafka))

    def test_cli_options__usage_lines_have_json_where_it_is(self):
        having = set()
        for name in re.findall(r"^  ([a-z]+) +\S", run("help").stdout.partition("exit codes:")[0], re.M):
            usage, _, rest = run(name, "--help").stdout.partition("\n")
            self.assertEqual("[--json]" in usage, "\n  --json " in rest, usage)
            having.update([name] if "[--json]" in usage else [])
        self.assertLessEqual({"audit", "check", "explain", "lag", "migrate", "rules", "version"}, having)

    def each_way_to_print(self):
        """Yields arguments, stdin and what a command returns that prints them: less than a buffer, and more."""
        for arguments in (("--version",), ("version",), ("help",), ("help", "options", "--markdown"),
                ("check", "--offline"), ("produce", "--stdout", "--generate", "2000")):
            yield arguments, b"", 0
        yield ("decode",), b"{}\n" * 5000, 1

    def test_cli_options__a_result_that_cannot_be_written_is_69_and_said(self):
        for arguments, data, code in self.each_way_to_print():
            with self.subTest(arguments), open("/dev/full", "wb") as full:
                done = subprocess.run([binary(), *arguments], input=data, stdout=full, stderr=subprocess.PIPE,
                    timeout=30)
                self.assertEqual(done.stderr,
                    b"delivery-worker: cannot write the result: No space left on device\n")
                self.assertEqual(done.returncode, code or 69)

    def test_cli_options__a_closed_stdout_is_69_too(self):
        done = subprocess.run(["sh", "-c", 'exec "$1" version >&-', "sh", binary()], env=environment(), cwd=ROOT,
            capture_output=True, timeout=30)
        self.assertEqual((done.returncode, done.stderr),
            (69, b"delivery-worker: cannot write the result: Bad file descriptor\n"))

    def test_cli_options__every_command_ends_by_signal_as_process_1(self):
        """The kernel spares process 1 what it has no handler for. `decode` waits for its input."""
        if subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True).returncode:
            self.skipTest("a PID namespace takes root")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with self.subTest(number):
                parent = subprocess.Popen(["unshare", "--pid", "--fork", binary(), "decode"], env=environment(),
                    stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
                self.addCleanup(parent.wait)
                self.addCleanup(parent.stdin.close)
                parent.stdin.write(b"x\n" * 100000)  # beyond the pipe and what decode gathers: it is at work by then
                parent.stdin.flush()
                with open(f"/proc/{parent.pid}/task/{parent.pid}/children", encoding="ascii") as children:
                    child = int(children.read().split()[0])
                os.kill(child, number)
                self.assertEqual(parent.wait(10), 128 + number)

    def test_cli_options__a_reader_that_leaves_early_is_no_error(self):
        for arguments, data, code in self.each_way_to_print():
            with self.subTest(arguments):
                reader, writer = os.pipe()
                os.close(reader)
                done = subprocess.run([binary(), *arguments], input=data, stdout=writer, stderr=subprocess.PIPE,
                    timeout=30)
                os.close(writer)
                self.assertEqual((done.returncode, done.stderr), (code, b""))

    def test_cli_options__every_variable_is_known(self):
        """With its own default each variable is accepted; so names in the reference are those that work."""
        variables = {}
        for row in rows():
            default = row["default"].strip("`")
            variables[re.match(r"`(DW_[A-Z0-9_]+)`", row["variable"]).group(1)] = "" if default == "empty" else default
        done = run("version", variables=variables)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_cli_options__committed_reference_and_sample_are_those_of_the_binary(self):
        for form, path in (("--markdown", "worker/OPTIONS.md"), ("--sample", "worker/delivery-worker.conf.sample")):
            with self.subTest(path), open(os.path.join(ROOT, path), encoding="utf-8") as file:
                self.assertEqual(run("help", "options", form).stdout, file.read(),
                    f"{path} is stale: delivery-worker help options {form} > {path}")
        sample = os.path.join(ROOT, "worker/delivery-worker.conf.sample")
        self.assertEqual(run("version", "--config", sample).returncode, 0)

    def test_cli_options__version(self):
        with open(os.path.join(ROOT, "VERSION"), encoding="ascii") as file:
            version = file.read().strip()
        self.assertEqual(run("--version").stdout, f"delivery-worker {version}\n")
        self.assertTrue(run("version").stdout.startswith(f"delivery-worker {version}\n"))


if __name__ == "__main__":
    unittest.main()
