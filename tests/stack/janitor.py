"""Cleans up after a stack whose owner is gone, however it went: SIGKILL included.

The owner holds the other end of this process's stdin and writes one line for each change:

    + PID START SIGNAL    a process to end, by SIGNAL first, by SIGKILL 5 s later
    - PID                 it has ended
    done                  nothing is left to do, or all of it is to stay

The end of stdin without `done` means that the owner died. START is the process's start time in clock ticks, so
that a number used again by somebody else's process is not mistaken for ours.
"""

import os
import shutil
import signal
import sys
import time

PATIENCE_S = 5


def start_ticks(pid):
    """Start time of a live process, or None: a zombie is not alive."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def send(pid, number):
    """Signals the process's group, which every server here leads, or at least the process."""
    for deliver in (os.killpg, os.kill):
        try:
            deliver(pid, number)
            return
        except (ProcessLookupError, PermissionError):
            continue


def end(pid, start, number):
    if start_ticks(pid) != start:
        return
    send(pid, signal.SIGCONT)
    send(pid, number)
    deadline = time.monotonic() + PATIENCE_S
    while start_ticks(pid) == start and time.monotonic() < deadline:
        time.sleep(0.02)
    if start_ticks(pid) == start:
        send(pid, signal.SIGKILL)


def main(folder):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    processes = {}
    for line in sys.stdin:
        words = line.split()
        if words[0] == "done":
            return
        if words[0] == "+":
            processes[int(words[1])] = (int(words[2]), int(words[3]))
        else:
            processes.pop(int(words[1]), None)
    for pid, (start, number) in reversed(processes.items()):
        end(pid, start, number)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
