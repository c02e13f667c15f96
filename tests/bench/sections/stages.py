"""
What the stages of a record's way cost inside the worker: instructions an event from callgrind, CPU time an event from
perf's samples, and CPU time of each thread from /proc. Where there are hardware counters, also what they count in all.
"""

import glob
import itertools
import os
import shutil
import signal
import subprocess

from stack import StackError, Worker, build_folder, wait_until
from stack.traffic import offsets

from .. import backlog, callgrind, samples, usage, workload
from ..ground import PARTITIONS
from .streams import settings

ALL = PARTITIONS + 4  # with those of the deferred topic
SLOW = {"kafka.consumer.session.timeout.ms": 45000, "redis.timeout_ms": 60000, "pg.connect_timeout_ms": 60000,
    "shutdown.timeout": 600}
SAMPLES_A_SECOND = 1999


def measure(ground, results, size):
    load = size.load or workload.W1
    topic, total = ground.topic(load, size.events)
    threads = Threads(os.path.join(ground.stack.folder, "counters") if _has_counters(results) else None)
    run = backlog.run(ground, load, topic, total, limit_s=size.point_s * 2, probe=threads, leave=False)
    rows = {}
    if threads.instructions:
        rows["all of it, by hardware counters"] = {"instructions": threads.instructions / threads.records}
    for name, used_us in sorted(threads.used.items(), key=lambda pair: -pair[1]):
        share = used_us / sum(threads.used.values())
        rows[f"thread {name}"] = {"cpu_us": share * run["worker_us"]}
    files = {}
    instructions = _instructions(ground, results, size, load, files)
    for stage, count in instructions.items():
        rows.setdefault(stage, {})["instructions"] = count
    for stage, share in _times(ground, results, size, load, topic, total, files).items():
        rows.setdefault(stage, {})["cpu_us"] = share * run["worker_us"]
    rows["all of it"] = {"cpu_us": run["worker_us"], "instructions": sum(instructions.values()) or None}
    for what, figures in rows.items():
        results.add("profile", what, settings(size, total, redis="on"), [figures])


def _has_counters(results):
    if not shutil.which("perf"):
        return False
    done = subprocess.run(["perf", "stat", "-x,", "-e", "instructions", "true"], capture_output=True, text=True)
    if done.returncode or not done.stderr.split(",")[0].isdigit():
        results.note("instructions by hardware counters: left out, this machine has none for us "
            f"({done.stderr.split(',')[0].strip() or 'perf stat failed'})")
        return False
    return True


class Threads:
    """CPU by thread, from the start of the worker, and what hardware counters say of the records in between."""

    def __init__(self, counters):
        self.counters = counters  # the file that perf writes, or None
        self.used, self.instructions, self.records = {}, 0, 1

    def begin(self, worker):
        if self.counters:
            self.records = backlog.counts([worker])[1]
            self.perf = subprocess.Popen(["perf", "stat", "-x,", "-e", "instructions", "-o", self.counters, "-p",
                str(worker.pid)], stdin=subprocess.DEVNULL)

    def end(self, worker):
        self.used = usage.threads_us(worker.pid)
        if not self.counters:
            return
        self.records = max(1, backlog.counts([worker])[1] - self.records)
        self.perf.send_signal(signal.SIGINT)
        self.perf.wait(60)
        with open(self.counters, encoding="utf-8") as out:
            words = [line.split(",")[0] for line in out if "instructions" in line]
        self.instructions = sum(int(word) for word in words if word.isdigit())  # a line for each kind of core


class Perf:
    """Samples of the CPU's clock while the backlog is worked on."""

    def __init__(self, path):
        self.path = path
        self.process = None

    def begin(self, worker):
        self.process = subprocess.Popen(["perf", "record", "-q", "-e", "cpu-clock", "-F", str(SAMPLES_A_SECOND), "-o",
            self.path, "-p", str(worker.pid)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)

    def end(self, worker):
        self.process.send_signal(signal.SIGINT)
        self.complaint = self.process.communicate(timeout=60)[1]


def _times(ground, results, size, load, topic, total, files):
    if not shutil.which("perf"):
        results.note("CPU time by stage: left out, perf is not installed")
        return {}
    path = os.path.join(ground.stack.folder, "perf.data")
    perf = Perf(path)
    backlog.run(ground, load, topic, total, limit_s=size.point_s * 2, probe=perf, leave=False)
    try:
        return samples.by_stage(path, files)
    except StackError as wrong:
        results.note(f"CPU time by stage: left out, {wrong} {perf.complaint.strip()}".rstrip())
        return {}


def _instructions(ground, results, size, load, files):
    """The records come when the worker has joined, so that none of its start is counted."""
    if not shutil.which("valgrind") or not shutil.which("callgrind_control"):
        results.note("instructions by stage: left out, valgrind is not installed")
        return {}
    out = os.path.join(build_folder(), "tests", "bench", "callgrind.out")
    for old in glob.glob(f"{out}*"):
        os.remove(old)
    topic, dsn = ground.new_topic(), ground.new_ledger(load)
    options = {**ground.options(topic, f"stages{ground.stack.number()}"), "pg.dsn": dsn, **SLOW}
    under = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--fair-sched=yes")
    worker = Worker(ground.stack, options, under=under)
    try:
        worker.start(limit_s=120)
        worker.wait_until(lambda m: m.value("assigned_partitions") == ALL, 120)
        _control("--zero", worker.pid)
        ground.fill(topic, _beginning(ground, load, size.profile_events), size.profile_events)
        total = sum(offsets(ground.stack.brokers, topic).values())
        # Seldom: each look is made of the worker's instructions, too.
        wait_until(lambda: backlog.counts([worker])[1] >= total, 300, "not all was settled", every_s=1)
        _control("--dump", worker.pid)
    finally:
        worker.process.end()
    ground.stack.delete_topic(topic)
    ground.drop(dsn)
    dump = f"{out}.1"
    if not os.path.exists(dump):
        raise StackError(f"callgrind left no {dump}")
    profile = callgrind.Profile(dump)
    files.update(profile.files)
    return {stage: count / total for stage, count in profile.by_stage().items()}


def _beginning(ground, load, count):
    """Of somebody's own events the first ones: callgrind makes the worker some fifty times slower."""
    if not load.file:
        return load
    path = os.path.join(ground.stack.folder, "beginning.ndjson")
    with open(load.file, "rb") as lines, open(path, "wb") as out:
        out.writelines(itertools.islice(lines, count))
    return workload.real(path)


def _control(order, pid):
    done = subprocess.run(["callgrind_control", order, str(pid)], capture_output=True, text=True, timeout=120)
    if done.returncode or "Error" in done.stdout + done.stderr:
        raise StackError(f"callgrind_control {order}: {done.stdout}{done.stderr}")
