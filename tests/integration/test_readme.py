"""
README.md as a newcomer reads it: every command block is run as it stands, from the first to the last, against the servers
of the `make up` in it.
"""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import unittest

from stack import ROOT, wait_until
from stack import keep
from stack.process import Janitor, Process
from stack.worker import LISTENING

# Lines that are left out, and why; they are printed each time.
NOT_RUN = {"make test": "the whole suite, which this test is part of"}

LIMIT_S = 240
EXPORT = re.compile(r"^export (DW_KAFKA_BROKERS|DW_PG_DSN|DW_REDIS_URL)=\S+$")


def readme():
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as page:
        return page.read()


def blocks():
    """[(language, text)] of the page's fenced blocks."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", readme(), re.M | re.S)


def command(line):
    return line.partition("#")[0].strip()


def default(option):
    with open(os.path.join(ROOT, "worker", "delivery-worker.conf.sample"), encoding="utf-8") as sample:
        return re.search(rf"^#{re.escape(option)} = (.*)$", sample.read(), re.M)[1]


class Terminals:
    """Where the blocks are typed: nothing of the make that runs this test, and a corner of our own for `make up`."""

    def __init__(self, folder):
        self.folder = folder
        os.chmod(folder, 0o711)  # the servers may run as another user
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DW_") and name not in
            ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "BUILD", "SANITIZE", "FAILPOINTS", "SUITE", "ONLY", "N", "SEED",
            "EVENTS", "KAFKA")}
        # The port is the one thing that is not as it stands: another worker of this machine may have it.
        self.environment = {**kept, "TMPDIR": folder, "DW_HTTP_LISTEN": "127.0.0.1:0"}
        self.scripts = 0

    def script(self, text):
        self.scripts += 1
        path = os.path.join(self.folder, f"block-{self.scripts}")
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        return ["sh", "-e", path]

    def run(self, text):
        """Returns (exit code, stdout, stderr) of a block."""
        done = subprocess.run(self.script(text), cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=LIMIT_S)
        return done.returncode, done.stdout, done.stderr

    def leave_running(self, text, janitor):
        """Starts a block whose last command stays in the foreground; returns once that serves HTTP."""
        process = Process("readme", os.path.join(self.folder, "first-terminal.log"), janitor)
        process.launch(self.script(f"cd '{ROOT}'\n{text}"), env=self.environment)

        def port():
            if not process.alive():
                raise AssertionError(f"it left with {process.exit_code}\n{process.tail()}")
            found = LISTENING.search(process.tail(1000))
            return found and int(found[1] or found[2])

        return process, wait_until(port, LIMIT_S, lambda: f"`run` does not come up\n{process.tail()}", every_s=0.1)


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


class ReadmeTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="delivery-worker-readme-", dir="/tmp", ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.terminals = Terminals(folder.name)
        self.janitor = Janitor(folder.name)
        self.addCleanup(self.janitor.dismiss)

    def guard(self):
        """If this process dies, the servers of `make up` are to go, too."""
        name = os.path.basename(keep.folder_path())
        with open(os.path.join(self.terminals.folder, name, "state.json"), encoding="utf-8") as state:
            for _, pid, start in json.load(state)["processes"]:
                self.janitor.tell(f"+ {pid} {start} {signal.SIGQUIT:d}")

    def commands(self):
        """The command blocks, without the lines that are not run."""
        for language, text in blocks():
            if language != "sh":
                continue
            lines = []
            for line in text.splitlines(keepends=True):
                if command(line) in NOT_RUN:
                    print(f"     not run: {command(line)}: {NOT_RUN[command(line)]}", file=sys.__stdout__, flush=True)
                else:
                    lines.append(line)
            yield "".join(lines)

    def test_readme__its_commands_run_in_their_order(self):
        first = None
        try:
            for text in self.commands():
                stays = command(text.splitlines()[-1]) == "build/delivery-worker run"
                if stays:
                    self.assertIsNone(first, "two blocks stay in the foreground")
                    first, port = self.terminals.leave_running(text, self.janitor)
                    self.guard()
                    self.check_up()
                    self.check_http(port)
                    continue
                if "make down" in text:
                    self.assertEqual(self.leave(first), 0, first.tail())
                code, out, err = self.terminals.run(text)
                self.assertEqual(code, 0, f"{text}\n{out}\n{err}")
                if "explain o1" in text:
                    self.assertRegex(out, r"c1 *\| *72")
            self.assertIsNotNone(first, "no block runs the worker")
        finally:
            if first:
                first.end()
            self.terminals.run("make down")

    @staticmethod
    def leave(process):
        """As Ctrl-C, of the command in the foreground. Returns the block's exit code."""
        os.kill(process.family()[-1], signal.SIGINT)
        return process.wait(60)

    def check_up(self):
        """What it prints is for a shell, whatever make and the servers have to say beside it."""
        code, out, err = self.terminals.run("make up")
        self.assertEqual(code, 0, err)
        lines = out.splitlines()
        self.assertEqual(len(lines), 3, out)
        for line in lines:
            self.assertRegex(line, EXPORT)
        self.assertIn("up already", err)

    def check_http(self, port):
        paths = re.findall(r"<http://([^/>]+)(/\w+)>", readme())
        self.assertEqual({address for address, _ in paths}, {default("http.listen")})
        self.assertEqual([path for _, path in paths], ["/metrics", "/livez", "/readyz"])
        for _, path in paths:
            wait_until(lambda path=path: get(port, path) == 200, 30, f"{path} is not 200", every_s=0.1)

    def test_readme__every_block_of_commands_is_marked_as_one(self):
        languages = [language for language, _ in blocks()]
        self.assertEqual(languages.count(""), 1, "the picture alone is no commands")
        self.assertEqual(set(languages), {"", "sh"})


if __name__ == "__main__":
    unittest.main()
