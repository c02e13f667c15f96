#!/usr/bin/env python3
"""
The crash matrix at full size, for `make crash`: every case RUNS times, with events and passes of another seed each time.

    tests/faults/crash.py [--runs N] [--seed S] [--only TEXT]

Prints what fails as it happens, then a table: case, runs, verdict. The same seed gives the same runs. Exit code 1 when
one failed or none ran.
"""

import argparse
import concurrent.futures
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import crash_matrix  # noqa: E402: the path comes first
from stack import Stack  # noqa: E402

ORDERS = 40


def attempt(case, stack):
    """Returns what went wrong, or None."""
    try:
        case.run(stack)
    except Exception as wrong:  # of whatever kind: the other cases go on
        print(f"FAIL {wrong}\n\nagain: make crash ONLY='{case.name}' RUNS=1 SEED={case.seed}\n", flush=True)
        return wrong
    return None


def print_table(runs):
    """`runs`: {name of a case: [what went wrong or None]}."""
    width = max(map(len, runs))
    print(f"{'CASE':{width}}  RUNS  VERDICT")
    for name, results in runs.items():
        failed = sum(result is not None for result in results)
        print(f"{name:{width}}  {len(results):4}  {f'FAILED {failed}' if failed else 'ok'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name holds it, as in \"kill after_poll\"")
    options = parser.parse_args()
    print(f"seeds {options.seed} to {options.seed + options.runs - 1}", flush=True)
    started = time.monotonic()
    cases = [case for run in range(options.runs) for case in crash_matrix.cases(options.seed + run, orders=ORDERS)
        if options.only in case.name]
    if not cases:
        print(f"no case holds {options.only!r} in its name")
        return 1
    runs = {case.name: [] for case in cases}
    with Stack() as stack, concurrent.futures.ThreadPoolExecutor(crash_matrix.AT_A_TIME) as pool:
        for case, wrong in zip(cases, pool.map(lambda case: attempt(case, stack), cases)):
            runs[case.name].append(wrong)
            print(f"\r{sum(map(len, runs.values()))} of {len(cases)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print_table(runs)
    failed = sum(result is not None for results in runs.values() for result in results)
    print(f"{len(cases)} runs of {len(runs)} cases, {failed} failed; {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
