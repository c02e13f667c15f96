"""Each command and the worker under the address, undefined behaviour and leak sanitizers: also where they fail."""

import os
import tempfile
import unittest
from unittest import mock

from stack import ROOT, Scene, run_command, shared
from stack.events import BASE_RULES, delivered, event, ledger_totals

BINARY = os.path.join(os.environ.get("DW_TEST_FUZZ") or os.path.join(ROOT, "build", "fuzz"), "delivery-worker")
FOUND = 99
EVENTS = [delivered(f"o{i}", 1000 + i, f"c{i % 3}", f"p{i % 2}") for i in range(60)]
REFUSED = b'{"order_id":"o1","status":"delivered","timestamp":"2026-03-01T10:00:00Z","x":1,"x":2}'


class LeaksTest(unittest.TestCase):
    def setUp(self):
        self.assertTrue(os.path.exists(BINARY), f"not built: {BINARY}; make SANITIZE=fuzz binary")
        found = mock.patch.dict(os.environ, DW_BINARY=BINARY, ASAN_OPTIONS=f"detect_leaks=1:exitcode={FOUND}",
            UBSAN_OPTIONS=f"halt_on_error=1:exitcode={FOUND}")
        found.start()
        self.addCleanup(found.stop)

    def check(self, done, code):
        self.assertEqual(done.returncode, code, done.stderr[-6000:])
        self.assertNotRegex(done.stderr, "Sanitizer|runtime error")
        return done

    def test_leaks__commands_without_servers(self):
        lines = b'{"order_id":"o1","status":"created","timestamp":"2026-03-01T10:00:00Z"}\n' + REFUSED + b"\n[]\n{\n"
        for arguments, code in (
            (["version"], 0), (["help"], 0), (["help", "options", "--markdown"], 0), (["run", "--help"], 0), ([], 2),
            (["rnu"], 2), (["run", "--batch.mx=1"], 2), (["run", "--batch.max=0"], 78), (["run", "--config=/none"], 78),
            (["run", "--redis.url=x"], 78), (["run", "--kafka.no.such.thing=1"], 78), (["check", "--offline"], 0),
            (["run", "--accept-loss=t:0:1-2", "--accept-loss=t"], 2), (["decode", "--at", "2026-06-01T00:00:00Z"], 1),
            (["decode", "--whole", "/dev/null", __file__], 1), (["produce", "--generate", "x"], 2),
        ):
            with self.subTest(arguments):
                options = {"workers": 3, "kafka.fetch.min.bytes": 1}
                self.check(run_command(*arguments, options=options, data=lines), code)

    def test_leaks__commands_without_the_servers_they_want(self):
        options = {"kafka.brokers": "127.0.0.1:1", "pg.dsn": "host=127.0.0.1 port=1",
            "redis.url": "redis://127.0.0.1:1"}
        for arguments, code in ((["check"], 1), (["migrate"], 69), (["rules", "show"], 69), (["explain", "o1"], 69),
                                (["audit"], 69)):
            with self.subTest(arguments):
                self.check(run_command(*arguments, options=options), code)

    def test_leaks__commands_and_worker(self):
        limits = {"rate.partner.per_second": 1000, "rate.partner.burst": 5, "rate.defer_ms": 50}
        scene = Scene(shared(), partitions=2, **limits)
        scene.apply_rules({**BASE_RULES, "partners": [{"partner_id": "p1", "kinds": ["points", "order_credit"]}]})
        with tempfile.NamedTemporaryFile("w", suffix=".json") as bad:
            bad.write('{"rules":[{"id":"base"}]}')
            bad.flush()
            self.check(scene.command("rules", "apply", bad.name), 78)
        scene.produce(EVENTS + EVENTS[:20] + [event("o1", customer_id="another"), REFUSED])
        with scene.worker() as worker:
            scene.wait_settled(worker)
            for path in ("/metrics", "/status", "/livez", "/readyz", "/nothing"):
                worker.get(path)
            self.assertEqual(worker.stop(), 0, worker.log())
            self.assertNotRegex(worker.log(1000), "Sanitizer|runtime error")
        self.assertEqual(ledger_totals(scene)[0], len(EVENTS))
        for arguments, code in (
            (["migrate"], 0), (["check"], 0), (["rules", "show"], 0), (["rules", "show", "--json"], 0), (["lag"], 0),
            (["lag", "--json"], 0), (["explain", "o1"], 0), (["explain", "o1", "--from-kafka"], 0),
            (["explain", "o1", "--json"], 0), (["explain", "none"], 1), (["audit"], 0), (["audit", "--from-kafka"], 0),
            (["audit", "--from-kafka", "--json"], 0), (["produce", "--generate", "50", "--seed", "1"], 0),
        ):
            with self.subTest(arguments):
                self.check(scene.command(*arguments), code)


if __name__ == "__main__":
    unittest.main()
