"""
A worker of which one allocation fails, wherever that happens to be: in our code, in a library's, at its start or under
load. It goes on, or it ends with a message; a successor finishes, and the ledger is exact [I1] [I2]. Above all no good
record is dead-lettered for it [I10].
"""

import os
import random
import re
import unittest

from stack import ROOT, Scene, StackError, binary, build_folder, shared, wait_until
from stack.events import BASE_RULES, ledger_totals
from stack.load import Load

PRELOAD = os.path.join(build_folder(), "tests", "lib", "failing_malloc.so")
SEEDS = range(int(os.environ.get("DW_TEST_MEMORY_SEEDS") or 4))
HIT = "failing_malloc: an allocation fails"

# What a process that ended has to have said: we, the log's last word, or an assertion of librdkafka's.
SAID = re.compile(r"^delivery-worker: internal error: |^delivery-worker run: |level=error|^\*\*\* .*: assert", re.M)

# A member that is back takes its partitions again, so that a successor does not wait for the dead one's session.
OPTIONS = {"kafka.group.instance.id": "one", "kafka.session.timeout.ms": 3000, "pg.idle_timeout_ms": 2000,
    "batch.max": 50, "rate.partner.per_second": 1000, "rate.partner.burst": 10, "rate.defer_ms": 100}
POISON = b'{"order_id":"bad","status":"created","timestamp":"2026-03-01T10:00:00Z","attempt":100}'


def sanitizer():
    with open(binary(), "rb") as file:
        found = re.search(rb"__([at])san_init", file.read())
    return found and found[0].decode()


def allocation(seed):
    """Which one fails: of the start, of the first connections, or of the load, each of them about as often."""
    low, high = ((100, 9000), (9000, 16000), (16000, 28000))[seed % 3]
    return random.Random(seed).randrange(low, high)


class MemoryTest(unittest.TestCase):
    def setUp(self):
        if sanitizer():
            self.skipTest(f"{sanitizer()}: allocations are the sanitizer's, and cannot be made to fail")
        self.assertTrue(os.path.exists(PRELOAD), f"not built: {PRELOAD}")

    def fail_once(self, scene, load, seed):
        """A worker in which it happens, and what came of it: its exit code, or None when it goes on."""
        worker = scene.worker()
        worker.variables = {"LD_PRELOAD": PRELOAD, "DW_TEST_FAIL_ALLOCATION": str(allocation(seed))}
        try:
            worker.start()
        except StackError:
            if worker.alive():
                raise

        def over():
            if not worker.alive():
                return True
            if HIT in worker.log(100000):
                return scene.unsettled() == 0
            load.send(20)
            return False

        wait_until(over, 60, lambda: f"allocation {allocation(seed)} is not reached, or it hangs\n{worker.log()}",
            every_s=0.05)
        code = worker.stop() if worker.alive() else worker.process.exit_code
        return code, worker.log(100000)

    def test_memory__one_allocation_fails(self):
        scene = Scene(shared(), partitions=3, **OPTIONS)
        scene.apply_rules(BASE_RULES)
        load = Load(scene)
        for seed in SEEDS:
            with self.subTest(seed=seed, allocation=allocation(seed)):
                load.send(100)
                scene.produce([POISON])
                code, log = self.fail_once(scene, load, seed)
                where = log[log.find(HIT):][:3000]
                said = SAID.search(log, log.find(HIT))
                print(f"seed {seed}: allocation {allocation(seed)}, exit {code}",
                    log[said.start():].splitlines()[0][:150] if said else "")
                self.assertIn(HIT, log)
                self.assertIn(code, (0, 69, 70, 78, -6), where)
                if code != 0:
                    self.assertRegex(log[log.find(HIT):], SAID)
        with scene.worker() as worker:
            scene.check(worker)
            self.assertEqual(worker.stop(), 0)
        self.assertEqual(ledger_totals(scene), load.expected.totals())
        self.assertEqual({letter.header("dw_error_code") for letter in scene.read(scene.dlq)}, {"out_of_range"})


if __name__ == "__main__":
    unittest.main()
