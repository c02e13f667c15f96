"""
PostgreSQL's disk is full, for real: intake pauses, memory is flat, nobody leaves the group, no good record is
dead-lettered, and when there is room again everything drains [I8] [I10]. Ten minutes of it with DW_TEST_SCALE=full.
"""

import shutil
import subprocess
import time
import unittest

from outage_case import IN_FLIGHT, MIB, Load, OutageCase
from stack import shared, wait_until
from stack.load import memory_bytes, scaled
from stack.postgres import SmallDiskPostgres

# Longer than the poll interval: a worker that did not poll would be sent away from its group.
FULL_S = scaled(9, 600)
POLL_INTERVAL_MS = 7000


def may_mount():
    # As the server is launched; containers often forbid it.
    return bool(shutil.which("unshare")) and any(subprocess.run(
        ["unshare", "--mount", *more, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0
        for more in ([], ["--user", "--map-current-user", "--keep-caps"]))


class FullTest(OutageCase):
    def setUp(self):
        if not may_mount():
            self.skipTest("no right to mount a tmpfs, not even in a namespace: no disk that can be filled")
        stack = shared()
        self.postgres = SmallDiskPostgres(stack.folder, stack.janitor, f"postgres-small-{stack.number()}")
        self.addCleanup(self.postgres.process.end)
        self.postgres.init()
        self.postgres.start()
        self.postgres.psql(f"CREATE ROLE {self.postgres.ROLE} LOGIN", "postgres")

    def test_full__disk_for_a_while(self):
        scene = self.scene(postgres=self.postgres, **{"kafka.consumer.max.poll.interval.ms": POLL_INTERVAL_MS})
        with scene.worker() as worker:
            worker.wait_ready()
            with self.fault(worker, {"ledger"}, {"postgresql"}) as vitals, Load(scene, pause_s=0.1) as load:
                self.wait_credits(scene, 100)
                self.postgres.fill()
                since = time.monotonic()
                self.wait_degraded(worker, "ledger")
                worker.wait_logged("does not take a batch.*53100")
                worker.wait_until(lambda m: m.value("records_in_flight") >= IN_FLIGHT, 30, "a full pipeline")
                load.stop(None)
                load.send(3000)
                worker.wait_until(lambda m: m.value("consumer_lag", topic=scene.topic) > 4000, 30, "the lag")
                full = memory_bytes(worker)
                vitals.memory_max = 0
                wait_until(lambda: time.monotonic() > since + FULL_S, FULL_S + 1, "the time to pass", every_s=0.1)
                self.assertEqual(worker.metrics().value("degraded", what="ledger"), 1)
                self.assertLess(vitals.memory_max - full, 2 * MIB)
                self.postgres.free()
                self.wait_credits(scene)
            self.recovered(scene, worker, load, limit_s=120)


if __name__ == "__main__":
    unittest.main()
