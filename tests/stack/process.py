"""Processes that a stack starts: each leads a session of its own, logs into a file, and is known to the janitor."""

import os
import pwd
import signal
import socket
import subprocess
import sys
import time
import unittest

from . import janitor


class StackError(Exception):
    """A server or a tool did not do what the stack needs; the text says which and why."""


def wait_until(predicate, limit_s, what, every_s=0.02):
    """Polls until `predicate` returns something true, and returns that. `what` names it when time is up."""
    deadline = time.monotonic() + limit_s
    while True:
        found = predicate()
        if found:
            return found
        if time.monotonic() > deadline:
            raise StackError(f"{what() if callable(what) else what}: not within {limit_s:g} s")
        time.sleep(every_s)


def free_port():
    """A port that nobody listens on now. Somebody may by the time it is used: starts are tried again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def unprivileged_user():
    """Who runs the servers when we are root, which PostgreSQL refuses: a passwd entry, or None."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StackError("root needs a user postgres or nobody to run the servers as")


def as_process_1(argv):
    """
    The command that runs `argv` as the first process of a namespace, where signals have no default action. Skips the
    test where namespaces are not allowed.
    """
    alone = ["unshare", "--pid", "--fork", "--kill-child", *([] if os.geteuid() == 0 else ["--user"])]
    tried = subprocess.run([*alone, "true"], capture_output=True, text=True)
    if tried.returncode:
        raise unittest.SkipTest(f"no namespace of its own can be had here: {tried.stderr.strip()}")
    return [*alone, *argv]


def process_1_of(child):
    """The number that the first process of a namespace has here; `child`: the Popen of as_process_1."""
    with open(f"/proc/{child.pid}/task/{child.pid}/children", encoding="ascii") as children:
        pid = int(children.read())
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        if f"NSpid:\t{pid}\t1\n" not in status.read():
            raise StackError(f"{pid} is not process 1 of a namespace")
    return pid


class Janitor:
    """The owner's end of the pipe to janitor.py."""

    def __init__(self, folder):
        self.process = subprocess.Popen(
            [sys.executable, janitor.__file__, folder], stdin=subprocess.PIPE, start_new_session=True, cwd="/")

    def tell(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def dismiss(self):
        self.tell("done")
        self.process.stdin.close()
        self.process.wait()


class Process:
    """One process: started here, or adopted from a stack that was kept."""

    def __init__(self, name, log, keeper, end_signal=signal.SIGKILL):
        self.name = name
        self.log = log
        self.keeper = keeper
        self.end_signal = end_signal  # what ends it at once and leaves nothing behind
        self.pid = None
        self.start = None
        self.child = None
        self.exit_code = None

    def launch(self, argv, env=None, user=None, stdin=subprocess.DEVNULL, stdout=None):
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(
                argv, stdin=stdin, stdout=stdout or log, stderr=log, env=env, start_new_session=True,
                cwd=os.path.dirname(self.log), **identity)
        self.pid = self.child.pid
        self.start = janitor.start_ticks(self.pid) or 0
        self.exit_code = None
        if self.keeper:
            self.keeper.tell(f"+ {self.pid} {self.start} {self.end_signal:d}")

    def adopt(self, pid, start):
        self.pid, self.start = pid, start

    def alive(self):
        if self.pid is None:
            return False
        if self.child:
            self.exit_code = self.child.poll()
            if self.exit_code is None:
                return True
        elif janitor.start_ticks(self.pid) == self.start:
            return True
        if self.keeper:
            self.keeper.tell(f"- {self.pid}")
        self.pid = None
        return False

    def send(self, number):
        if self.alive():
            os.kill(self.pid, number)

    def wait(self, limit_s):
        """Waits for the process to leave by itself. Returns its exit code, negative for a signal."""
        wait_until(lambda: not self.alive(), limit_s, lambda: f"{self.name} still runs", every_s=0.01)
        return self.exit_code

    def stop(self, number=signal.SIGTERM, patience_s=20):
        """Asks it to leave, and kills it when it does not. Returns its exit code."""
        self.thaw()
        self.send(number)
        try:
            return self.wait(patience_s)
        except StackError:
            self.kill()
            raise

    def kill(self):
        if self.alive():
            janitor.send(self.pid, signal.SIGKILL)
            self.wait(10)

    def end(self):
        """Ends it at once, as the janitor would: for a stack that is thrown away."""
        if self.alive():
            self.thaw()
            janitor.send(self.pid, self.end_signal)
            try:
                self.wait(janitor.PATIENCE_S)
            except StackError:
                self.kill()

    def family(self):
        """The process and all below it: PostgreSQL's backends lead process groups of their own."""
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/stat", encoding="latin-1") as stat:
                        parents.setdefault(int(stat.read().rpartition(")")[2].split()[1]), []).append(int(entry))
                except OSError:
                    continue
        found = [self.pid] if self.alive() else []
        for pid in found:
            found.extend(parents.get(pid, []))
        return found

    def _signal_family(self, number):
        for pid in self.family():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def freeze(self):
        """Stops it where it is: connections stay, nothing answers."""
        self._signal_family(signal.SIGSTOP)

    def thaw(self):
        self._signal_family(signal.SIGCONT)

    def tail(self, lines=25):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                return "".join(log.readlines()[-lines:])
        except OSError:
            return ""


class Server:
    """A process on a port of its own. Subclasses say how to launch it and when it is ready."""

    START_LIMIT_S = 60

    def __init__(self, name, folder, keeper, end_signal=signal.SIGKILL):
        self.folder = folder
        self.port = None
        self.process = Process(name, os.path.join(folder, f"{name}.log"), keeper, end_signal)

    def launch(self):
        raise NotImplementedError

    def ready(self):
        raise NotImplementedError

    def start(self):
        """Starts on the port it had, or on a free one, and waits until it serves."""
        fixed = self.port is not None
        for attempt in range(5):
            if not fixed:
                self.port = free_port()
            self.launch()
            wait_until(lambda: not self.process.alive() or self.ready(), self.START_LIMIT_S,
                lambda: f"{self.process.name} does not answer\n{self.process.tail()}")
            if self.process.alive():
                return
            log = self.process.tail().lower()
            if "address already in use" not in log and "could not bind" not in log:
                break
            time.sleep(0.2 * attempt)
        raise StackError(f"{self.process.name} did not start\n{self.process.tail()}")

    def stop(self):
        self.process.stop()

    def kill(self):
        self.process.kill()

    def end(self):
        self.process.end()

    def freeze(self):
        self.process.freeze()

    def thaw(self):
        self.process.thaw()
