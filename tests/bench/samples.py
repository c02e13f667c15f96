"""Adds perf's samples up by stage: by the worker's function, the library, or else the thread."""

import subprocess

from stack import StackError

from .callgrind import stage_of

LIBRARIES = (("libpq", "libpq"), ("libhiredis", "Redis"), ("libjansson", "decode"))
ENOUGH = 200


def by_stage(path, files):
    """{stage: share of the samples}. `files`: where functions are, as callgrind found; by name where it did not."""
    done = subprocess.run(["perf", "script", "-i", path, "-F", "comm,ip,sym,dso"], capture_output=True, text=True,
        errors="replace")
    if done.returncode:
        raise StackError(f"perf script: {done.stderr.strip()}")
    counts = {}
    for line in done.stdout.splitlines():
        stage = _stage(line, files)
        if stage:
            counts[stage] = counts.get(stage, 0) + 1
    total = sum(counts.values())
    if total < ENOUGH:
        raise StackError(f"perf took {total} samples only")
    return {stage: count / total for stage, count in counts.items()}


def _stage(line, files):
    """A line is `COMM IP SYMBOL (LIBRARY)`; the thread's name may hold spaces."""
    before, _, library = line.rstrip().rpartition(" (")
    words = before.split()
    if not library or len(words) < 2:
        return None
    at = next((i for i in range(len(words) - 1, 0, -1) if _is_address(words[i])), None)
    if at is None:
        return None
    thread, symbol = words[0].rstrip("0123456789-"), " ".join(words[at + 1:])
    library = library.rstrip(")")
    if "delivery-worker" in library:
        return stage_of(symbol, files.get(symbol, "")) or f"{thread}: the worker's other functions"
    for part, stage in LIBRARIES:
        if part in library:
            return stage
    if "librdkafka" in library and thread == "consumer":
        return "poll"
    if thread.startswith("rdk:"):
        return "librdkafka's threads"
    return f"{thread}: kernel and libc"


def _is_address(word):
    return len(word) >= 4 and all(c in "0123456789abcdef" for c in word)
