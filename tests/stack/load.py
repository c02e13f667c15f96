"""Traffic and observation that go on beside a test: threads that end with their block."""

import os
import random
import re
import threading

from . import traffic
from .events import Expected, delivered, event


def scaled(quick, full):
    """The size of a case: `full` where the environment says DW_TEST_SCALE=full."""
    return full if os.environ.get("DW_TEST_SCALE") == "full" else quick


class _Beside:
    """A thread that repeats `step` until the block ends, with `pause_s` in between; its error is the block's."""

    def __init__(self, pause_s):
        self._pause_s = pause_s
        self._stopped = threading.Event()
        self._error = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self._stopped.set()
        self._thread.join()
        if self._error and not kind:
            raise self._error

    stop = __exit__

    def _run(self):
        try:
            while not self._stopped.wait(self._pause_s):
                self.step()
        except Exception as error:  # told at the end of the block, on the thread that can
            self._error = error

    def step(self):
        raise NotImplementedError


class Load(_Beside):
    """
    Delivered orders, each of them twice or so, in no order worth the name. Its block must not outlive Kafka.
    `poison` of a hundred records are none, `slow` of a hundred orders are of the partner "slow".
    """

    def __init__(self, scene, name="load", batch=100, pause_s=0.02, poison=0, slow=0):
        super().__init__(pause_s)
        self.scene, self.name, self.batch = scene, name, batch
        self.poison, self.slow = poison, slow
        self.random = random.Random(name)
        self.lock = threading.Lock()
        self.expected = Expected()
        self.records = 0
        self.poisoned = 0

    def step(self):
        self.send(self.batch)

    def _partner(self, number):
        return "slow" if self.random.randrange(100) < self.slow else f"p{number % 7}"

    def _bad(self, number):
        name = f"{self.name}-bad-{number}"
        return (f'{{"order_id":"{name}"', event(name, "lost"), event(name, timestamp="yesterday"))[number % 3]

    def send(self, count):
        """Also for the test itself, beside the block or without it."""
        with self.lock:
            first = len(self.expected.orders)
            fresh = [delivered(f"{self.name}-{i}", self.random.randrange(100, 99999), f"c{i % 50}", self._partner(i))
                for i in range(first, first + count)]
            again = self.random.sample(fresh, count // 2)
            bad = [self._bad(self.poisoned + i) for i in range(count * self.poison // 100)]
            self.scene.produce(traffic.shuffled(fresh + again + bad, first))
            self.expected.add(fresh)
            self.records += count + count // 2 + len(bad)
            self.poisoned += len(bad)


class Vitals(_Beside):
    """What a worker says of itself, several times a second."""

    def __init__(self, worker, pause_s=0.05):
        super().__init__(pause_s)
        self.worker = worker
        self.samples = 0
        self.not_alive = []  # what /livez said when it was not 200
        self.ready = set()  # statuses of /readyz
        self.degraded = set()  # every `what` that was 1
        self.unequal = []  # scrapes that were not conserved
        self.down = set()  # every dependency whose dependency_up was 0
        self.in_flight_max = 0
        self.memory_first = memory_bytes(worker)
        self.memory_max = 0  # resident

    def __enter__(self):
        """Looks at once: what is over soon has been seen, too."""
        self.step()
        return super().__enter__()

    def step(self):
        status, text = self.worker.get("/livez")
        if status != 200:
            self.not_alive.append(text)
        self.ready.add(self.worker.get("/readyz")[0])
        metrics = self.worker.metrics()
        self.degraded |= {what for what, value in metrics.by("degraded", "what").items() if value}
        self.down |= {name for name, value in metrics.by("dependency_up", "dependency").items() if not value}
        consumed, accounted = metrics.conservation()
        if consumed != accounted:
            self.unequal.append((consumed, accounted))
        self.in_flight_max = max(self.in_flight_max, metrics.value("records_in_flight"))
        self.memory_max = max(self.memory_max, memory_bytes(self.worker))
        self.samples += 1


def memory_bytes(worker):
    """Resident now."""
    with open(f"/proc/{worker.pid}/status", encoding="ascii") as status:
        return int(re.search(r"VmRSS:\s+(\d+) kB", status.read())[1]) * 1024
