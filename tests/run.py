#!/usr/bin/env python3
"""
Runs the tests, suite by suite, and counts them.

    tests/run.py [--build DIR] [--only TEXT] [SUITE...]

Suites, in this order: unit and component (one executable for each tests/<suite>/test_*.c, built by make), sim (blocks
of seeds of the simulation, and those of tests/sim/seeds by name), conformance (unittest, tests/conformance/test_*.py),
fuzz (each target of tests/fuzz on its corpus and a bounded number of inputs), integration and faults (unittest; the
tests of one run of each share one set of servers), address and thread (a few of the others once more, under sanitizers,
from a build beside this one that is made here).
--only takes the tests whose name holds TEXT, or one of several with commas between. The last line is the count. Exit
code 1 when a test failed or none ran.

A C test that cannot run says so by a line `skipped: reason`; it counts as skipped then, not as passed. What a sanitizer
has to say about any process that a test started, a worker or a tool, fails that test.
"""

import argparse
import concurrent.futures
import ctypes
import faulthandler
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from lib.bounded import run_bounded

TESTS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(TESTS)

# Seconds that a suite may take on two cores before the summary complains, and that one test may take at all.
BUDGET_S = {"unit": 60, "component": 180, "sim": 60, "conformance": 120, "fuzz": 60, "integration": 900, "faults": 600,
    "address": 60, "thread": 60}
LIMIT_S = {"unit": 120, "component": 300, "sim": 120, "conformance": 300, "fuzz": 120, "integration": 300, "faults": 300}
if os.environ.get("DW_TEST_SCALE") == "full":
    LIMIT_S["faults"] *= 10
C_SUITES = ("unit", "component")
# Always the same seeds: a failure is there again the next time. make soak takes others.
SIM_BLOCKS, SIM_BLOCK_SEEDS = 8, 250

# What the suites address and thread run of each other suite: every way out of the worker that ends with exit(), where
# leaks are looked for; and whatever threads share. `make test SANITIZE=address` (or thread) runs everything so.
TOOLS = ("kafka_records", "kafka_topics")  # of the stack that the integration tests share
SANITIZED = {
    "address": {"integration": [
        "test_bad_input__each_code_costs_its_record_only",
        "test_history__new_epoch_while_records_flow",
        "test_rebalance__a_held_partition_changes_hands",
        "test_shutdown__sigterm_under_load_settles_and_commits_what_was_taken"]},
    "thread": {"unit": [
        "test_dispatch", "test_gcra", "test_health", "test_lag", "test_log", "test_log_writer", "test_metrics",
        "test_thread", "test_tracker"]},
}

CHECK_SUMMARY = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)$", re.M)
SKIPPED = re.compile(r"^skipped: (.*)$", re.M)


class Count:
    def __init__(self, passed=0, failed=0, skipped=0):
        self.passed, self.failed, self.skipped = passed, failed, skipped

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def total(self):
        return self.passed + self.failed + self.skipped

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed" + (f", {self.skipped} skipped" if self.skipped else "")


def indent(text):
    return "".join(f"    {line}\n" for line in text.rstrip().splitlines())


def wanted(name, only):
    return any(text in name for text in only.split(","))


# Sanitizers: each process of theirs writes its report into a file, so that none goes unnoticed

SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": f"suppressions={os.path.join(TESTS, 'tsan.supp')}:atexit_sleep_ms=0",
}


def sanitizer_environment(folder):
    """Ours; what the caller has set goes above it, but for where reports go."""
    env = dict(os.environ)
    for name, options in SANITIZERS.items():
        env[name] = ":".join(filter(None, [options, os.environ.get(name), f"log_path={folder}/report"]))
    return env


def take_reports(folder):
    """The text of the reports that came since the last call, which are gone then."""
    text = ""
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        with open(path, encoding="utf-8", errors="replace") as report:
            text += report.read()
        os.unlink(path)
    return text


# C: executables linked with check


def judge(code, output, limit_s):
    """Returns (count, what is wrong or None, reasons of skips)."""
    summaries = CHECK_SUMMARY.findall(output)
    checks, failures, errors = (sum(int(row[i]) for row in summaries) for i in range(3))
    reasons = SKIPPED.findall(output)
    failed = failures + errors
    if code is None:
        wrong = f"not finished after {limit_s} s"
    elif code < 0:
        wrong = f"ended by {signal.Signals(-code).name}"
    elif not checks:
        wrong = f"ran no check (exit {code})"
    elif failed or code:
        wrong = f"exit {code}"
    else:
        return Count(checks - len(reasons), 0, len(reasons)), None, reasons
    return Count(max(0, checks - max(failed, 1)), max(failed, 1), 0), wrong, reasons


def run_executable(suite, name, path):
    started = time.monotonic()
    if not os.access(path, os.X_OK):
        return Count(failed=1), f"FAIL {name}: not built ({path})\n"
    with tempfile.TemporaryDirectory() as folder:
        code, output = run_bounded([path], LIMIT_S[suite], ROOT, sanitizer_environment(folder))
        report = take_reports(folder)
    count, wrong, reasons = judge(code, output, LIMIT_S[suite])
    if report:
        output += report
        count.failed, wrong = max(count.failed, 1), wrong or "a sanitizer's report"
    took = time.monotonic() - started
    text = f"{'FAIL' if wrong else 'ok  '} {name}: {count} ({took:.1f} s){': ' + wrong if wrong else ''}\n"
    text += "".join(f"    skipped: {reason}\n" for reason in reasons)
    return count, text + (indent(output) if wrong else "")


def run_c_suite(suite, options):
    """As many at a time as there are cores, which component tests, with servers of their own, mostly wait beside."""
    sources = sorted(name[:-2] for name in os.listdir(os.path.join(TESTS, suite))
        if name.startswith("test_") and name.endswith(".c") and wanted(name, options.only))
    count = Count()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() if suite == "unit" else min(2, os.cpu_count())) as pool:
        runs = [pool.submit(run_executable, suite, name, os.path.join(options.build, "tests", suite, name))
            for name in sources]
        try:
            for run in runs:
                one, text = run.result()
                count.add(one)
                print(text, end="", flush=True)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return count


# The simulation: one executable, a test is a block of seeds or a seed that once failed


def simulations():
    """Yields (name, arguments)."""
    for block in range(SIM_BLOCKS):
        first = 1 + block * SIM_BLOCK_SEEDS
        yield (f"sim_seeds__{first}_to_{first + SIM_BLOCK_SEEDS - 1}",
            ["--from", str(first), "--seeds", str(SIM_BLOCK_SEEDS), "--jobs", str(os.cpu_count())])
    with open(os.path.join(TESTS, "sim", "seeds"), encoding="ascii") as lines:
        for line in lines:
            if line.strip() and not line.startswith("#"):
                seed, name = line.split(maxsplit=1)
                yield f"sim_seed__{name.strip().replace(' ', '_')}", ["--seed", seed]


def run_sim_suite(options):
    path = os.path.join(options.build, "tests", "sim", "sim")
    count = Count()
    for name, arguments in simulations():
        if not wanted(name, options.only):
            continue
        started = time.monotonic()
        code, output = run_bounded([path] + arguments, LIMIT_S["sim"], ROOT)
        wrong = None if code == 0 else f"not finished after {LIMIT_S['sim']} s" if code is None else f"exit {code}"
        count.add(Count(failed=1) if wrong else Count(passed=1))
        print(f"{'FAIL' if wrong else 'ok  '} {name} ({time.monotonic() - started:.1f} s)"
            f"{': ' + wrong if wrong else ''}\n{indent(output) if wrong else ''}", end="", flush=True)
    return count


# Python: unittest, each suite in a process of its own, so that a hang or a crash costs that suite only


class Result(unittest.TestResult):
    """Prints a line a test as it ends, and what a failing one had to say."""

    def __init__(self, limit_s, reports):
        super().__init__()
        self.buffer = True
        self.limit_s = limit_s
        self.reports = reports
        self.count = Count()
        self.wrong = []
        self.reason = None
        self.succeeded = False
        self.started = 0.0

    def startTest(self, test):
        super().startTest(test)
        faulthandler.dump_traceback_later(self.limit_s, exit=True, file=sys.__stderr__)
        self.wrong, self.reason, self.succeeded, self.started = [], None, False, time.monotonic()

    def stopTest(self, test):
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)
        if not (self.wrong or self.reason or self.succeeded):
            self.wrong.append("interrupted\n")
        self.close(test)

    def stopTestRun(self):
        """What processes reported that ended after the last test."""
        super().stopTestRun()
        report = take_reports(self.reports)
        if report:
            self.count.failed += 1
            self.say(f"FAIL after the last test\n{indent(report)}")

    def close(self, test):
        report = take_reports(self.reports)
        if report:
            self.wrong.append(report)
        took = time.monotonic() - self.started
        name = test.id()
        if self.wrong:
            self.count.failed += 1
            self.say(f"FAIL {name} ({took:.1f} s)\n{indent(''.join(self.wrong))}")
        elif self.reason is not None:
            self.count.skipped += 1
            self.say(f"skip {name}: {self.reason}\n")
        else:
            self.count.passed += 1
            self.say(f"ok   {name} ({took:.1f} s)\n")
        self.wrong, self.reason = [], None

    @staticmethod
    def say(text):
        sys.__stdout__.write(text)
        sys.__stdout__.flush()

    def note(self, test, error):
        # The base class's text: without unittest's own frames, with what the test printed.
        self.wrong.append(self._exc_info_to_string(error, test))
        if not hasattr(test, "_testMethodName"):
            # Set-up or tear-down of a class or module: no test is running.
            self.close(test)

    def addSuccess(self, test):
        self.succeeded = True

    def addExpectedFailure(self, test, err):
        self.succeeded = True

    def addError(self, test, err):
        self.note(test, err)

    def addFailure(self, test, err):
        self.note(test, err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.wrong.append(f"{subtest}\n" + self._exc_info_to_string(err, test))

    def addSkip(self, test, reason):
        self.reason = reason
        if not hasattr(test, "_testMethodName"):
            self.close(test)

    def addUnexpectedSuccess(self, test):
        self.wrong.append("was expected to fail and did not\n")


def flatten(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


def child_main(suite, only, path):
    """Runs one Python suite here and writes its count into the file at `path`."""
    sys.path.insert(0, TESTS)
    folder = os.path.join(TESTS, suite)
    found = unittest.TestLoader().discover(folder, "test_*.py", folder)
    tests = unittest.TestSuite(test for test in flatten(found) if wanted(test.id(), only))
    with tempfile.TemporaryDirectory() as reports:
        # For the processes that the tests start; servers are none of ours and read none of it.
        os.environ.update(sanitizer_environment(reports))
        for test in list(tests):
            # For classes that begin their tests before it is their turn, several at a time.
            getattr(test, "announce", lambda: None)()
        result = Result(LIMIT_S[suite], reports)
        tests.run(result)
        if "stack" in sys.modules:
            sys.modules["stack"].close_shared()
        result.stopTestRun()
    with open(path, "w", encoding="ascii") as out:
        json.dump(vars(result.count), out)


def run_python_suite(suite, options):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "count.json")
        child = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--child", path, "--build", options.build,
                "--only", options.only, suite],
            stdin=subprocess.DEVNULL, cwd=ROOT)
        try:
            code = child.wait()
        except KeyboardInterrupt:
            # From the terminal it was interrupted too, and is taking its servers down.
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGTERM)
                child.wait(30)
            raise
        if not os.path.exists(path):
            print(f"FAIL {suite}: the test process ended with {code} and gave no count")
            return Count(failed=1)
        with open(path, encoding="ascii") as count:
            return Count(**json.load(count))


# A few tests of other suites, under sanitizers


def run_sanitized_suite(kind, options):
    """Builds what is needed below options.build, as `make SANITIZE=` does, and runs it from there."""
    build = os.path.join(options.build, kind)
    targets, runs = [], []
    for suite, names in SANITIZED[kind].items():
        names = [name for name in names if wanted(name, options.only)]
        runs += [(suite, names)] if names else []
        if suite in C_SUITES:
            targets += [os.path.join(build, "tests", suite, name) for name in names]
        elif names:
            targets += ["binary"] + [os.path.join(build, "tests", "tools", name) for name in TOOLS]
    if not targets:
        return Count()
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    started = time.monotonic()
    relative = [os.path.relpath(target, ROOT) if target != "binary" else target for target in targets]
    code, output = run_bounded(["make", "--no-print-directory", f"-j{os.cpu_count()}", f"SANITIZE={kind}",
        f"BUILD={os.path.relpath(options.build, ROOT)}", *relative], 600, ROOT, env)
    if code != 0:
        print(f"FAIL {kind}: not built ({code})\n{indent(output)}", end="", flush=True)
        return Count(failed=1)
    print(f"built with SANITIZE={kind} ({time.monotonic() - started:.1f} s)", flush=True)
    count = Count()
    for suite, names in runs:
        inner = argparse.Namespace(build=build, only=",".join(names))
        one = (run_c_suite if suite in C_SUITES else run_python_suite)(suite, inner)
        if one.total() < len(names):
            print(f"FAIL {kind}: {one.total()} tests of {len(names)} that are named in SANITIZED", flush=True)
            one.failed += 1
        count.add(one)
    return count


def forget_shell():
    """What a shell holds for its owner and what changes an outcome: libpq's defaults, the language of messages."""
    for name in list(os.environ):
        if name.startswith(("LANG", "LC_", "PG")):
            del os.environ[name]
    os.environ["LC_ALL"] = "C.UTF-8"


SANITIZED_RND_BITS = 28  # Debian's; Ubuntu's kernels have 32
ADDR_NO_RANDOMIZE = 0x0040000  # linux/personality.h


def fix_addresses():
    """
    For whatever is started here: where the kernel draws addresses from more bits, ThreadSanitizer of GCC before 14 ends
    with "unexpected memory mapping", and AddressSanitizer of clang before 17 now and then.
    """
    try:
        with open("/proc/sys/vm/mmap_rnd_bits", encoding="ascii") as bits:
            fine = int(bits.read()) <= SANITIZED_RND_BITS
    except OSError:
        fine = False  # only root may know
    if not fine:
        ctypes.CDLL(None).personality(ADDR_NO_RANDOMIZE)


def announce_data():
    shared = os.path.join(os.path.dirname(ROOT), "shared", "data")
    if "DW_TEST_DATA" not in os.environ and os.path.isdir(shared):
        os.environ["DW_TEST_DATA"] = shared
    print(f"data sets: {os.environ.get('DW_TEST_DATA') or 'none, tests that need them are skipped'}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.environ.get("DW_TEST_BUILD") or os.path.join(ROOT, "build"))
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(BUDGET_S))
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    os.environ["DW_TEST_BUILD"] = options.build
    for suite in options.suites:
        if suite not in BUDGET_S:
            parser.error(f"unknown suite {suite}; {', '.join(BUDGET_S)}")
    if options.child:
        child_main(options.suites[0], options.only, options.child)
        return 0

    forget_shell()
    fix_addresses()
    announce_data()
    total, times = Count(), []
    sanitized = os.path.basename(options.build) in SANITIZED
    for suite in options.suites or BUDGET_S:
        print(f"== {suite}", flush=True)
        if suite in SANITIZED and sanitized:
            print(f"not run: all of {options.build} is built with a sanitizer")
            continue
        started = time.monotonic()
        if suite == "sim":
            count = run_sim_suite(options)
        elif suite in SANITIZED:
            count = run_sanitized_suite(suite, options)
        else:
            count = (run_c_suite if suite in C_SUITES else run_python_suite)(suite, options)
        if not count.total() and not options.only:
            print(f"FAIL {suite}: no test ran")
            count.failed += 1
        total.add(count)
        times.append((suite, time.monotonic() - started, count))
    print("== time")
    for suite, took, count in times:
        over = ", OVER BUDGET" if took > BUDGET_S[suite] else ""
        print(f"{suite}: {count}; {took:.1f} s of {BUDGET_S[suite]} s{over}")
    print(total, flush=True)
    return 1 if total.failed or not total.total() - total.skipped else 0


if __name__ == "__main__":
    # As Ctrl-C: what runs is stopped, servers included.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
