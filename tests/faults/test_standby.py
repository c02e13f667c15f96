"""
A synchronous standby that is away: nothing commits, nothing is abandoned, the worker says what it waits for, lives, and
goes on where it was when the standby is no longer waited for.
"""

import unittest

from outage_case import OutageCase
from stack import wait_until
from stack.events import delivered
from stack.load import Load

WORKERS = 2


class StandbyTest(OutageCase):
    def demand(self, scene, names):
        """Which standbys each COMMIT waits for."""
        change = f"SET synchronous_standby_names = '{names}'" if names else "RESET synchronous_standby_names"
        scene.postgres.psql(f"ALTER SYSTEM {change}", "postgres")
        scene.postgres.psql("SELECT pg_reload_conf()", "postgres")
        shown = f"SELECT current_setting('synchronous_standby_names') = '{names}'"
        wait_until(lambda: scene.psql(shown) == [("t",)], 10, "the server to reload")

    def waiting(self, scene):
        return int(scene.psql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' "
            "AND datname = current_database()")[0][0])

    def test_standby__away_is_waited_for_by_as_many_as_there_are(self):
        scene = self.scene(workers=WORKERS, **{"pg.statement_timeout_ms": 1000, "log.level": "debug"})
        self.addCleanup(self.demand, scene, "")
        with scene.worker() as worker:
            worker.wait_ready()
            load = Load(scene, pause_s=0.05)
            with self.fault(worker, {"ledger"}, {"postgresql"}), load:
                self.wait_credits(scene, 100)
                before = worker.metrics().value("rebalances_total")
                self.demand(scene, "absent")
                worker.wait_logged("the ledger does not take a batch.*synchronous standby .SyncRep., of absent", 30)
                # Twice as long as an answer may be overdue: whoever gives up has done so by now.
                worker.wait_logged("a batch waits for postgresql.*no answer from PostgreSQL for 1[2-9]... ms", 30)
                self.assertGreater(self.waiting(scene), 0)
                self.assertLessEqual(self.waiting(scene), WORKERS + 1)  # and the keeper
                metrics = worker.metrics()
                self.assertEqual(metrics.value("degraded", what="ledger"), 1)
                self.assertEqual(metrics.value("rebalances_total"), before)
                self.assertEqual(worker.get("/livez")[0], 200)
                self.demand(scene, "")
                self.wait_credits(scene)
            self.recovered(scene, worker, load)
            self.assertEqual(worker.stop(), 0, worker.log())

    def test_standby__away_does_not_hold_up_a_leave(self):
        scene = self.scene(workers=WORKERS, **{"shutdown.timeout": 3})
        self.addCleanup(self.demand, scene, "")
        good = [delivered("o1")]
        with scene.worker() as worker:
            worker.wait_ready()
            self.demand(scene, "absent")
            scene.produce(good)
            wait_until(lambda: self.waiting(scene) > 0, 20, "a COMMIT to wait")
            self.assertEqual(worker.stop(), 69, worker.log())
            self.demand(scene, "")
        with scene.worker() as worker:
            scene.wait_settled(worker)
            scene.check(worker)


if __name__ == "__main__":
    unittest.main()
