"""CPU and memory, from /proc. Everything is in microseconds and bytes."""

import os
import re

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
    """CPU that the whole machine was busy, and that it did not get from its host."""
    with open("/proc/stat", encoding="ascii") as stat:
        fields = [int(word) for word in stat.readline().split()[1:9]]
    user, nice, system, _, _, irq, soft, steal = fields
    return (user + nice + system + irq + soft) * TICK_US, steal * TICK_US


def own_us():
    times = os.times()
    return (times.user + times.system + times.children_user + times.children_system) * 1e6


def _status_bytes(pid, name):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(re.search(name + r":\s+(\d+) kB", status.read())[1]) * 1024


def peak_bytes(pid):
    return _status_bytes(pid, "VmHWM")


def resident_bytes(pid):
    return _status_bytes(pid, "VmRSS")


class Meter:
    """CPU of named processes since it was made, and of everybody else on the machine."""

    def __init__(self, processes):
        self.processes = processes
        self.before = self._read()

    def _read(self):
        busy, stolen = machine_us()
        return {**{name: family_us(process) for name, process in self.processes.items()}, "bench": own_us(),
            "busy": busy, "stolen": stolen}

    def read(self):
        """{name: µs}; `others` is what no part of this took."""
        now = self._read()
        used = {name: now[name] - self.before.get(name, 0) for name in now}
        busy, stolen = used.pop("busy"), used.pop("stolen")
        used["others"] = max(0, busy - sum(used.values()))
        used["stolen"] = stolen
        return used
