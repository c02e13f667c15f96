"""What the cases about PostgreSQL and Redis share: proxies in front, what must hold meanwhile, and at the end."""

import contextlib

from fault_case import MIB, FaultCase
from stack import Scene, Session, shared
from stack.events import BASE_RULES, ledger_totals
from stack.load import Load, Vitals
from stack.proxy import Proxy

IN_FLIGHT = 400
OPTIONS = {"inflight.max": IN_FLIGHT, "batch.max": 50, "redis.timeout_ms": 200}


class OutageCase(FaultCase):
    def proxy(self, server):
        proxy = Proxy(server.port)
        self.addCleanup(proxy.close)
        return proxy

    def session(self, scene):
        session = Session(scene)
        self.addCleanup(session.close)
        return session

    def scene(self, postgres=None, rules=BASE_RULES, **options):
        scene = Scene(shared(), partitions=4, postgres=postgres, **{**OPTIONS, **options})
        scene.apply_rules(rules)
        return scene

    def through(self, proxy, scene, **parameters):
        """Options of a worker that reaches PostgreSQL through the proxy."""
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return {"pg.dsn": scene.dsn.replace(f":{scene.postgres.port}/", f":{proxy.port}/") + (query and f"?{query}")}

    @contextlib.contextmanager
    def fault(self, worker, degraded=(), down=(), always_ready=False):
        """
        Around a fault: the worker lives, is conserved and bounded, and complains of nothing but what is so: `degraded`
        and `down` are what it may show.
        """
        with Vitals(worker) as vitals:
            yield vitals
        self.assert_alive(vitals, IN_FLIGHT, 32 * MIB)
        self.assertLessEqual(vitals.degraded, set(degraded))
        self.assertLessEqual(vitals.down, set(down))
        if always_ready:
            self.assertEqual(vitals.ready, {200})

    def recovered(self, scene, worker, load, assigned=1, limit_s=60):
        """Drained, well, in the group as before, and exact. Returns the metrics."""
        scene.wait_settled(worker, limit_s=limit_s)
        worker.wait_ready()
        metrics = worker.wait_until(lambda m: m.value("degraded") == 0 and m.value("records_in_flight") == 0 and
            m.is_zero("consumer_lag") and m.value("dependency_up") == 3, 30, "the worker to be well again")
        # Nobody was sent away from the group meanwhile [I8], no good record was given up [I10].
        self.assertEqual(metrics.value("rebalances_total", kind="lost"), 0)
        self.assertEqual(metrics.value("rebalances_total", kind="assigned"), assigned)
        self.assertEqual(metrics.value("dead_letters_total"), 0)
        self.assertEqual(scene.read(scene.dlq), [])
        self.assertEqual(ledger_totals(scene), load.expected.totals())
        scene.check(worker)
        return metrics


__all__ = ["IN_FLIGHT", "MIB", "Load", "OutageCase", "Session"]
