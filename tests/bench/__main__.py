"""
`python3 -m bench`, with tests/ on PYTHONPATH; make calls it.

    ONLY=W1,W4      sections to measure; all of them otherwise
    N=400000 SEED=1 how long W1 is (the others in proportion, but for those that go by time), and from which seed
    EVENTS=FILE     NDJSON of your own instead of the generated streams
    FULL=1          more points, longer, ten million orders, ten million records of backlog: half an hour
    PUBLISH=1       BENCHMARKS.md and its plots go into the tree instead of the build folder

A section that fails ends the run, and so does Ctrl-C; what was measured before is written all the same, into the build
folder. Exit codes: 0; 1 when something failed; 130 when interrupted.
"""

import dataclasses
import json
import os
import shlex
import signal
import sys
import time
import traceback

from stack import ROOT, StackError, build_folder
from stack.traffic import count_events

from . import goals, report, workload
from .backlog import TooFew
from .ground import Ground
from .results import Results
from .sections import OF_FILE, SECTIONS


@dataclasses.dataclass
class Size:
    """How much of everything."""

    events: int
    seed: int
    full: bool
    load: workload.Workload = None  # of EVENTS=
    runs: int = 3
    storm_runs: int = 5
    point_runs: int = 1
    point_s: float = 3
    table_runs: int = 7
    table_s: float = 8
    steady_s: int = 12
    steady_runs: int = 5
    slow_s: float = 10
    leave_after_s: float = 1.5
    profile_events: int = 20000

    def __post_init__(self):
        if self.full:
            self.point_s, self.table_s, self.steady_s, self.slow_s = 5, 12, 15, 15


EVENTS_MIN = 10_000  # what takes less than a tenth of a second is the start of the worker


def number(name, usual, least):
    text = os.environ.get(name) or f"{usual}"
    if not text.isdigit() or int(text) < least:
        raise StackError(f"{name}={text}: not a number, {least:,} or more")
    return int(text)


def said(name):
    return os.environ.get(name, "") not in ("", "0")


def read_size():
    events = os.environ.get("EVENTS") or ""
    size = Size(number("N", 400_000, EVENTS_MIN), number("SEED", 1, 1), said("FULL"))
    if events:
        count_events(events)
        size.load = workload.real(os.path.abspath(events))
    return size


def chosen(size):
    sections = OF_FILE if size.load else SECTIONS
    only = [name.strip() for name in (os.environ.get("ONLY") or "").split(",") if name.strip()]
    for name in only:
        if name not in sections:
            raise StackError(f"ONLY={name}: not one of {', '.join(sections)}")
    return {name: measure for name, measure in sections.items() if not only or name in only}


def command_line():
    given = [name for name in ("ONLY", "N", "SEED", "FULL") if said(name)]
    words = [f"{name}={shlex.quote(os.environ[name])}" for name in given]
    if os.environ.get("EVENTS"):
        words.append("EVENTS=file.ndjson")
    return " ".join(["make bench", *words])


def measure_all(ground, results, sections, size):
    """Returns what ended it before its time, or None."""
    for name, measure in sections.items():
        print(f"-- {name}", flush=True)
        try:
            measure(ground, results, size)
        except TooFew as few:
            results.note(f"{name} is not complete: {few}")
        except (Exception, KeyboardInterrupt) as wrong:
            how = "was interrupted" if isinstance(wrong, KeyboardInterrupt) else "failed"
            why = str(wrong).partition("\n")[0]
            results.note(f"{name} {how}, and nothing was measured from there on" + (f": {why}" if why else ""))
            return wrong
    return None


def write(results, folder):
    """Prints the table, writes the JSON file and the report into `folder`."""
    judged = goals.judge(results)
    print("\n" + report.table(results, judged))
    path = os.path.join(build_folder(), "bench.json")
    with open(path, "w", encoding="utf-8") as out:
        json.dump({"about": results.about, "rows": [row.as_json() for row in results.rows],
            "goals": [dataclasses.asdict(goal) for goal in judged], "notes": results.notes}, out, indent=1,
            ensure_ascii=False)
        out.write("\n")
    written = report.publish(path, folder)
    print(f"written: {', '.join([path, *written])}; {results.about['took_s']:.0f} s", file=sys.stderr)


def main():
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    begun = time.monotonic()
    size = read_size()
    sections = chosen(size)
    with Ground(size.seed) as ground:
        results = Results(ground.about(command_line()), lambda row: print("   " + report.line(row), flush=True))
        streams = {size.load.name: size.load.text} if size.load else workload.texts()
        results.about["workloads"] = streams
        wrong = measure_all(ground, results, sections, size)
    results.about["took_s"] = time.monotonic() - begun
    write(results, ROOT if said("PUBLISH") and not wrong else build_folder())
    if wrong:
        print(f"bench: {results.notes[-1]}", file=sys.stderr)
        raise wrong
    return 0


def run():
    """Returns the exit code."""
    try:
        return main()
    except StackError as wrong:
        print(f"bench: {wrong}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nbench: interrupted, everything is stopped", file=sys.stderr)
        return 130
    except Exception:
        traceback.print_exc()
    return 1


if __name__ == "__main__":
    sys.exit(run())
