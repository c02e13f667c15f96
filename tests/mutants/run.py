#!/usr/bin/env python3
"""
Plants bugs and shows that the tests find them.

    tests/mutants/run.py [--build DIR] [--only TEXT[,TEXT...]]

Each tests/mutants/*.patch is one bug, its header says which and who must find it:

    Bug: what is wrong with it, as one would tell a colleague
    Breaks: the invariants of the contract, or its section
    Test: SUITE/FILE TEST
    Sign: a regular expression that the failing test's output must hold

One after the other is applied to a copy of the working tree and of what was built from it, so that only what the patch
touches is compiled again; then the test runs and must fail by that sign. A build that breaks, servers that do not start
or a test that hangs are no catch. The same tests must pass without any patch, which is shown first. Exit code 1 unless
all are caught.
"""

import argparse
import concurrent.futures
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

FOLDER = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(FOLDER)
ROOT = os.path.dirname(TESTS)
sys.path.insert(0, TESTS)

from lib.bounded import run_bounded  # noqa: E402: found by the path above

C_SUITES = ("unit", "component")
SUITES = ("unit", "component", "conformance", "integration", "faults")  # the fast ones first
FIELDS = ("Bug", "Breaks", "Test", "Sign")

BUILD_LIMIT_S = 300
TEST_LIMIT_S = 400

# What check says of a test that failed by an assertion, and of one that a signal or an early exit ended.
C_FAILURE = re.compile(r"^\S+:\d+:[FE]:[^:]*:(\w+):\d+: ", re.M)
PYTHON_FAILURE = re.compile(r"^(?:FAIL|ERROR): (\w+) \(", re.M)

CAUGHT = "caught"


class Mutant:
    def __init__(self, path):
        self.path = path
        self.name = os.path.splitext(os.path.basename(path))[0]
        self.fields = {}
        with open(path, encoding="utf-8") as patch:
            self.text = patch.read()
        field = None
        for line in self.text.partition("\n--- ")[0].splitlines():
            name, colon, value = line.partition(": ")
            if colon and name in FIELDS:
                field = name
                self.fields[field] = value.strip()
            elif field and line.startswith(" "):
                self.fields[field] += " " + line.strip()
        missing = [name for name in FIELDS if not self.fields.get(name)]
        if missing:
            raise ValueError(f"{path}: the header lacks {', '.join(missing)}")
        place, self.test = self.fields["Test"].split()
        self.suite, self.file = place.split("/")
        self.sign = re.compile(self.fields["Sign"], re.M)

    @property
    def source(self):
        return os.path.join("tests", self.suite, self.file + (".c" if self.suite in C_SUITES else ".py"))

    def test_exists(self):
        """Whether the file defines the test, and, in C, adds it to its case."""
        try:
            with open(os.path.join(ROOT, self.source), encoding="utf-8") as source:
                text = source.read()
        except FileNotFoundError:
            return False
        if self.suite in C_SUITES:
            return f"START_TEST({self.test})" in text and len(re.findall(rf"\b{self.test}\b", text)) > 1
        return f"    def {self.test}(" in text

    def applies(self, tree=ROOT, check=True):
        """Returns: None, or why not."""
        done = subprocess.run(["git", "apply", *(["--check"] if check else []), self.path], cwd=tree,
            capture_output=True, text=True, check=False)
        return done.stderr.strip() if done.returncode else None


def load(only=""):
    mutants = [Mutant(path) for path in glob.glob(os.path.join(FOLDER, "*.patch"))]
    chosen = [mutant for mutant in mutants if any(text in mutant.name for text in only.split(","))]
    return sorted(chosen, key=lambda mutant: (SUITES.index(mutant.suite), mutant.file, mutant.name))


def environment(tree):
    """For make and tests in the copy: nothing of a make or a test run around us."""
    kept = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL",
        "BUILD", "SANITIZE", "ONLY", "SUITE", "DW_BINARY")}
    return {**kept, "PYTHONPATH": os.path.join(tree, "tests"), "DW_TEST_BUILD": os.path.join(tree, "build")}


def copy_tree(build, tree):
    """The files that git knows or would add, and the build, both with their times."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
        capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if not os.path.exists(os.path.join(ROOT, name)):
            continue
        os.makedirs(os.path.dirname(os.path.join(tree, name)), exist_ok=True)
        shutil.copy2(os.path.join(ROOT, name), os.path.join(tree, name), follow_symlinks=False)
    # Not the builds beside it: sanitizers', fuzzers'.
    mine = ("gen", "common", "schemas", "worker", "tests", "libdelivery.a", "delivery-worker")
    os.makedirs(os.path.join(tree, "build"))
    subprocess.run(["cp", "-a", *(os.path.join(build, name) for name in mine), os.path.join(tree, "build")], check=True)
    # But the list of fail points, which the suite of faults reads as it is loaded.
    os.makedirs(os.path.join(tree, "build", "failpoints"))
    shutil.copy2(os.path.join(build, "failpoints", "delivery-worker"), os.path.join(tree, "build", "failpoints"))


def target_of(mutant):
    return f"build/tests/{mutant.suite}/{mutant.file}" if mutant.suite in C_SUITES else "binary"


def build_in(tree, targets, jobs):
    """Returns: None, or the compiler's words."""
    code, output = run_bounded(["make", "--no-print-directory", f"-j{jobs}", "BUILD=build", *targets],
        BUILD_LIMIT_S, tree, environment(tree))
    return None if code == 0 else output


def run_test(tree, suite, file, tests):
    """Returns (exit code or None, output). A C executable always runs all its tests; `file` may be a pattern."""
    if suite in C_SUITES:
        return run_bounded([os.path.join(tree, "build", "tests", suite, file)], TEST_LIMIT_S, tree, environment(tree))
    folder = os.path.join(tree, "tests", suite)
    chosen = [word for test in sorted(tests) for word in ("-k", f"*.{test}")]
    return run_bounded([sys.executable, "-m", "unittest", "discover", *chosen, "-s", folder, "-t", folder, "-p",
        f"{file}.py"], TEST_LIMIT_S * len(tests), tree, environment(tree))


def failures(suite, output):
    return set((C_FAILURE if suite in C_SUITES else PYTHON_FAILURE).findall(output))


def judge(mutant, code, output):
    if code is None:
        return "HUNG"
    failed = failures(mutant.suite, output)
    if mutant.test in failed:
        return CAUGHT if mutant.sign.search(output) else "OTHER SIGN"
    if failed or code != 0:
        return "OTHER FAILURE"
    return "SURVIVED"


def sign_line(mutant, output):
    """The line by which it was caught."""
    found = mutant.sign.search(output)
    start = output.rfind("\n", 0, found.start()) + 1
    return output[start:].split("\n", 1)[0].strip()[:150]


def show(output):
    print("".join(f"    {line[:300]}\n" for line in output.splitlines()[-60:]), end="", flush=True)


def try_mutant(mutant, clean, jobs):
    """Returns (verdict, what to show when it is not `caught`, seconds)."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="delivery-mutant-") as folder:
        # Kafka's and PostgreSQL's own user must reach what is in it.
        os.chmod(folder, 0o755)
        tree = os.path.join(folder, "tree")
        subprocess.run(["cp", "-a", clean, tree], check=True)
        why = mutant.applies(tree, check=False)
        if why:
            return "DOES NOT APPLY", why, time.monotonic() - started
        why = build_in(tree, [target_of(mutant)], jobs)
        if why:
            return "DOES NOT BUILD", why, time.monotonic() - started
        code, output = run_test(tree, mutant.suite, mutant.file, {mutant.test})
    return judge(mutant, code, output), output, time.monotonic() - started


def show_clean(mutants, clean, jobs):
    """Runs each test without a patch. Returns whether all passed."""
    well = True
    targets = sorted({target_of(mutant) for mutant in mutants})
    why = build_in(clean, targets, jobs)
    if why:
        print(f"the tree does not build\n{why}")
        return False
    groups = {}
    for mutant in mutants:
        # Python's of one suite share their servers.
        file = mutant.file if mutant.suite in C_SUITES else "test_*"
        groups.setdefault((mutant.suite, file), set()).add(mutant.test)
    for (suite, file), tests in groups.items():
        started = time.monotonic()
        code, output = run_test(clean, suite, file, tests)
        bad = code != 0 or failures(suite, output)
        took = time.monotonic() - started
        print(f"{'FAIL' if bad else 'ok  '} {suite}/{file} without a patch ({took:.1f} s)", flush=True)
        if bad:
            well = False
            show(output)
    return well


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--only", default="", metavar="TEXT")
    options = parser.parse_args()
    cores = os.cpu_count()
    mutants = load(options.only)
    if not mutants:
        print(f"no patch is named like {options.only!r}")
        return 1
    for mutant in mutants:
        if not mutant.test_exists():
            print(f"{mutant.name}: {mutant.source} has no {mutant.test}")
            return 1
    started = time.monotonic()
    rows = []
    with tempfile.TemporaryDirectory(prefix="delivery-mutants-") as folder:
        os.chmod(folder, 0o755)
        clean = os.path.join(folder, "clean")
        copy_tree(os.path.abspath(options.build), clean)
        if not show_clean(mutants, clean, cores):
            return 1
        # Unit tests by as many at a time as there are cores; the others start servers and go one by one.
        for unit in (True, False):
            group = [mutant for mutant in mutants if (mutant.suite == "unit") == unit]
            with concurrent.futures.ThreadPoolExecutor(cores if unit else 1) as pool:
                runs = [pool.submit(try_mutant, mutant, clean, 1 if unit else cores) for mutant in group]
                for mutant, run in zip(group, runs):
                    verdict, output, took = run.result()
                    rows.append((mutant, verdict, took))
                    print(f"{verdict}: {mutant.name} ({took:.1f} s)", flush=True)
                    if verdict == CAUGHT:
                        print(f"    {sign_line(mutant, output)}", flush=True)
                    else:
                        show(output)
    width = [max(len(text) for text in column) for column in
        zip(*((mutant.name, f"{mutant.suite}/{mutant.test}") for mutant, _, _ in rows))]
    print(f"\n{'mutant':{width[0]}}  {'test':{width[1]}}  {'seconds':>7}  verdict")
    for mutant, verdict, took in rows:
        print(f"{mutant.name:{width[0]}}  {mutant.suite + '/' + mutant.test:{width[1]}}  {took:7.1f}  {verdict}")
    caught = sum(verdict == CAUGHT for _, verdict, _ in rows)
    print(f"{caught} of {len(rows)} caught in {time.monotonic() - started:.0f} s")
    return 0 if caught == len(rows) else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
