"""delivery-worker as a process under test."""

import http.client
import os
import re
import signal
import subprocess

from .exposition import Exposition
from .process import StackError, wait_until
from .stack import ROOT, build_folder

LISTENING = re.compile(r'msg="http listening".*?\bport=(\d+)|"msg":"http listening".*?"port":(\d+)')


def binary():
    return os.environ.get("DW_BINARY") or os.path.join(build_folder(), "delivery-worker")


def environment(options):
    """Ours without libpq's and its DW_ variables, and one for each option: {"batch.max": 10} is DW_BATCH_MAX=10."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("DW_", "PG")) or
        key.startswith("DW_TEST_")}
    for key, value in options.items():
        env["DW_" + key.replace(".", "_").upper()] = str(value)
    return env


def run_command(*arguments, options=None, data=None, limit_s=120, check=None):
    """
    Runs one of the other commands to its end; `data` is its stdin, text or bytes. With `check`, an exit code,
    any other is a StackError. Returns a CompletedProcess with text.
    """
    if isinstance(data, str):
        data = data.encode()
    done = subprocess.run([binary(), *arguments], env=environment(options or {}), cwd=ROOT, input=data or b"",
        capture_output=True, timeout=limit_s)
    done.stdout = done.stdout.decode(errors="replace")
    done.stderr = done.stderr.decode(errors="replace")
    if check is not None and done.returncode != check:
        raise StackError(f"delivery-worker {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class Worker:
    """`delivery-worker run` with its options as environment. Part of its stack: it ends with it."""

    def __init__(self, stack, options, arguments=(), name=None, under=()):
        """`under`: a command that runs it, as in ("valgrind", "--tool=callgrind")."""
        self.stack = stack
        self.under = under
        self.name = name or f"worker-{stack.number()}"
        self.options = {"http.listen": "127.0.0.1:0", **options}
        self.arguments = arguments
        self.variables = {}  # of its environment, beside the options
        self.program = None  # when it is to be another build than binary()
        self.process = stack.new_process(self.name)
        self.port = None
        stack.workers.append(self)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.process.end()

    def start(self, limit_s=20):
        """Starts it, again if need be, and waits until it serves HTTP."""
        seen = os.path.getsize(self.process.log) if os.path.exists(self.process.log) else 0
        self.process.launch([*self.under, self.program or binary(), "run", *self.arguments],
            env={**environment(self.options), **self.variables})
        self.port = wait_until(lambda: self._find_port(seen), limit_s, lambda: f"{self.name} is silent\n{self.log()}")
        return self

    def _find_port(self, seen):
        if not self.process.alive():
            raise StackError(f"{self.name} left with {self.process.exit_code}\n{self.log()}")
        with open(self.process.log, "rb") as log:
            log.seek(seen)
            found = LISTENING.search(log.read().decode(errors="replace"))
        return int(found[1] or found[2]) if found else None

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process.alive()

    def log(self, lines=40):
        return self.process.tail(lines)

    def get(self, path, method="GET", limit_s=5):
        """Returns (status, body as text)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=limit_s)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def metrics(self):
        """One scrape, in which conservation must hold as in all [I7]."""
        status, body = self.get("/metrics")
        if status != 200:
            raise StackError(f"/metrics: {status} {body}")
        found = Exposition(body)
        consumed, accounted = found.conservation()
        if consumed != accounted:
            raise StackError(f"{self.name}: consumed {consumed:g}, settled and in flight {accounted:g}\n{self.log()}")
        return found

    def partitions(self, topic):
        """The partitions of `topic` that it shows as its own."""
        shown = self.metrics().series("consumer_partition_paused", topic=topic)
        return {int(labels["partition"]) for labels, _ in shown}

    def wait_logged(self, pattern, limit_s=20, since=0):
        """Waits for a line, from byte `since` of the log on, that matches. Returns the match."""
        return wait_until(lambda: re.search(pattern, self.log_since(since)), limit_s,
            lambda: f"{self.name}: no log line {pattern}\n{self.log()}")

    def log_since(self, start):
        """The log from byte `start` on."""
        with open(self.process.log, "rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")

    def log_size(self):
        return os.path.getsize(self.process.log)

    def wait_until(self, predicate, limit_s, what="the worker"):
        """Polls `predicate` with the metrics until it holds. Returns those metrics."""
        last = [None]

        def look():
            if not self.process.alive():
                raise StackError(f"{self.name} left with {self.process.exit_code}\n{self.log()}")
            last[0] = self.metrics()
            return predicate(last[0])

        try:
            wait_until(look, limit_s, what, every_s=0.05)
        except StackError as late:
            raise StackError(f"{late}\n{self.log()}") from None
        return last[0]

    def wait_ready(self, limit_s=30):
        wait_until(lambda: self.get("/readyz")[0] == 200, limit_s, lambda: f"{self.name} not ready\n{self.log()}")

    def stop(self, number=signal.SIGTERM, patience_s=40):
        """Asks it to leave. Returns its exit code."""
        return self.process.stop(number, patience_s)

    def kill(self):
        self.process.kill()

    def freeze(self):
        self.process.freeze()

    def thaw(self):
        self.process.thaw()

    def cpu_seconds(self):
        """User and system time so far."""
        with open(f"/proc/{self.pid}/stat", encoding="latin-1") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_peak_bytes(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1]) * 1024
