#!/usr/bin/env python3
"""
Runs the fuzz targets, as many at a time as there are cores, and prints a table.

    campaign.py [--seconds N] [TARGET]      (each target for 60 s)

Seeds are in corpus/, which is left alone; what a run finds beyond them is kept in the build folder for the next one,
as is an input that breaks a target, with the command that repeats it. Exit codes: 0; 1 when a target failed.
"""

import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import time

FOLDER = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("DW_TEST_FUZZ") or os.path.join(os.path.dirname(os.path.dirname(FOLDER)), "build", "fuzz")

# Targets that read what another one reads.
CORPUS_OF = {"event_json": "event"}
INPUT_LIMIT_S = 20
MEMORY_LIMIT_MB = 2048
WRONG = re.compile(r"internal error: .*|runtime error: .*|ERROR: .*")


def targets():
    return sorted(name[len("fuzz_"):-len(".c")] for name in os.listdir(FOLDER)
        if name.startswith("fuzz_") and name.endswith(".c"))


class Run:
    """One target's run, done when it is made. `limits` are libFuzzer's: runs=, max_total_time=, seed=."""

    def __init__(self, target, found, **limits):
        """`found`: the folder for inputs that reach something new, which are seeds, too."""
        self.target = target
        corpus = os.path.join(FOLDER, "corpus", CORPUS_OF.get(target, target))
        self.seeds = len(os.listdir(corpus))
        os.makedirs(found, exist_ok=True)
        crashes = os.path.join(BUILD, "crashes", "")
        os.makedirs(crashes, exist_ok=True)
        self.binary = os.path.join(BUILD, "tests", "fuzz", f"fuzz_{target}")
        command = [self.binary, f"-artifact_prefix={crashes}{target}-", "-print_final_stats=1",
            f"-timeout={INPUT_LIMIT_S}", f"-rss_limit_mb={MEMORY_LIMIT_MB}"]
        command += [f"-{name}={value}" for name, value in limits.items()]
        if os.path.exists(corpus + ".dict"):
            command.append(f"-dict={corpus}.dict")
        started = time.monotonic()
        # Reports are read from the output, and strndup of bytes without an end is no error.
        env = {name: value for name, value in os.environ.items() if not name.endswith("SAN_OPTIONS")}
        done = subprocess.run([*command, found, corpus], cwd=FOLDER, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env=env)
        self.took_s = time.monotonic() - started
        self.code = done.returncode
        self.log = done.stdout.decode(errors="replace")
        self.runs = self.last(r"stat::number_of_executed_units: (\d+)")
        self.corpus = self.last(r"corp: (\d+)/")

    def last(self, pattern):
        found = re.findall(pattern, self.log)
        return int(found[-1]) if found else 0

    def passed(self):
        return self.code == 0 and self.runs >= self.seeds

    def verdict(self):
        if self.passed():
            return "passed"
        wrong = WRONG.search(self.log)
        return "FAILED: " + (wrong[0] if wrong else f"exit {self.code}")

    def explanation(self):
        """What libFuzzer said, and how to see it again."""
        lines = [line for line in self.log.splitlines() if not line.startswith("#") or "DONE" in line]
        written = re.search(r"Test unit written to (\S+)", self.log)
        again = f"again: {self.binary} {written[1]}\n" if written else ""
        return "\n".join(lines[-60:]) + "\n" + again


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, metavar="N")
    parser.add_argument("target", nargs="?", metavar="TARGET", help=", ".join(targets()))
    options = parser.parse_args()
    if options.target and options.target not in targets():
        parser.error(f"no target {options.target}: {', '.join(targets())}")
    chosen = [options.target] if options.target else targets()
    print(f"{len(chosen)} targets, {options.seconds} s each, {os.cpu_count()} at a time", flush=True)
    failed = []
    print(f"{'target':<14}{'runs':>12}{'corpus':>8}{'time':>8}  verdict", flush=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = [pool.submit(Run, target, os.path.join(BUILD, "found", CORPUS_OF.get(target, target)),
            max_total_time=options.seconds) for target in chosen]
        for future in runs:
            run = future.result()
            print(f"{run.target:<14}{run.runs:>12,}{run.corpus:>8}{run.took_s:>7.0f}s  {run.verdict()}", flush=True)
            if not run.passed():
                failed.append(run)
    for run in failed:
        print(f"\n== {run.target}\n{run.explanation()}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
