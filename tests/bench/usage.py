"""CPU and memory, from /proc. Everything is in microseconds and bytes."""

import os
import re
import time

TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")


def _fields(path):
    """The fields of a stat file behind the command, which may hold spaces; None when the process is gone."""
    try:
        with open(path, encoding="latin-1") as stat:
            return stat.read().rpartition(")")[2].split()
    except OSError:
        return None


def family_us(process):
    """CPU of a process, of all below it, and of the children that it has waited for: what a server ever took."""
    total = 0
    for i, pid in enumerate(process.family()):
        fields = _fields(f"/proc/{pid}/stat")
        if fields:
            # utime and stime; of the first one also its dead children's: PostgreSQL's backends come and go.
            total += sum(int(fields[k]) for k in ((11, 12, 13, 14) if i == 0 else (11, 12)))
    return total * TICK_US


def threads_us(pid):
    """{thread name without its number: CPU}."""
    found = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{tid}/comm", encoding="ascii", errors="replace") as comm:
                name = comm.read().strip()
        except OSError:
            continue
        fields = _fields(f"/proc/{pid}/task/{tid}/stat")
        if fields:
            name = re.sub(r"[-:]?\d+$", "", name)
            found[name] = found.get(name, 0) + (int(fields[11]) + int(fields[12])) * TICK_US
    return found


def machine_us():
    """CPU that the whole machine was busy."""
    with open("/proc/stat", encoding="ascii") as stat:
        user, nice, system, _, _, irq, soft = (int(word) for word in stat.readline().split()[1:8])
    return (user + nice + system + irq + soft) * TICK_US


def tree_us(root):
    """CPU of a process and all below it, and of what these have waited for: one that ends in between stays counted."""
    children, used = {}, {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        fields = _fields(f"/proc/{entry}/stat")
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry))
            used[int(entry)] = sum(int(fields[k]) for k in (11, 12, 13, 14))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return sum(used.get(pid, 0) for pid in found) * TICK_US


def _status_bytes(pid, name):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(re.search(name + r":\s+(\d+) kB", status.read())[1]) * 1024


def peak_bytes(pid):
    return _status_bytes(pid, "VmHWM")


def resident_bytes(pid):
    return _status_bytes(pid, "VmRSS")


class Meter:
    """CPU of named processes since it was made, and of everybody else on the machine: who is not below this process."""

    def __init__(self, processes):
        self.processes = processes
        self.begun = time.monotonic()
        self.before = self._read()

    def _read(self):
        return {**{name: family_us(process) for name, process in self.processes.items()}, "ours": tree_us(os.getpid()),
            "busy": machine_us()}

    def read(self):
        """{name: µs}, and `others_cores`: how many the rest of the machine kept busy."""
        now, passed_s = self._read(), time.monotonic() - self.begun
        used = {name: now[name] - self.before.get(name, 0) for name in now}
        others_us = max(0, used.pop("busy") - used.pop("ours"))
        return {**used, "others_cores": others_us / 1e6 / passed_s}
