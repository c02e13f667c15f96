"""
Behind a pooler that hands server processes out by the transaction no command of ours goes on, and none leaves its settings
to other applications; one that keeps a server process a session is as good as none.
"""

import os
import shutil
import subprocess
import unittest

from stack import Scene, StackError, shared, wait_until
from stack.events import BASE_RULES, Expected, delivered, ledger_totals
from stack.process import Server, unprivileged_user

# Debian's folder for it is not in everybody's PATH.
PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


class Pooler(Server):
    def __init__(self, scene, mode, size):
        name = f"pgbouncer-{scene.stack.number()}"
        super().__init__(name, scene.stack.folder, scene.stack.janitor)
        self.user = unprivileged_user()
        self.scene = scene
        self.size = size
        self.file = os.path.join(scene.stack.folder, f"{name}.ini")
        self.users = os.path.join(scene.stack.folder, f"{name}.users")
        self.mode = mode

    def configure(self):
        with open(self.users, "w", encoding="ascii") as out:
            out.write(f'"{self.scene.postgres.ROLE}" ""\n')
        with open(self.file, "w", encoding="ascii") as out:
            out.write("[databases]\n"
                f"* = host=127.0.0.1 port={self.scene.postgres.port}\n"
                "[pgbouncer]\n"
                f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
                f"auth_type = trust\nauth_file = {self.users}\n"
                f"pool_mode = {self.mode}\ndefault_pool_size = {self.size}\nserver_lifetime = 3600\n")

    def launch(self):
        self.configure()
        self.process.launch([PGBOUNCER, self.file], user=self.user)

    def ready(self):
        try:
            return self.ask("SELECT 1") == ["1"]
        except StackError:
            return False

    def dsn(self):
        return self.scene.dsn.replace(f":{self.scene.postgres.port}/", f":{self.port}/")

    def ask(self, sql):
        """As another application."""
        done = subprocess.run(["psql", "-X", "-q", "-t", "-A", self.dsn(), "-c", sql], capture_output=True, text=True,
            timeout=20)
        if done.returncode:
            raise StackError(done.stderr)
        return done.stdout.split()


@unittest.skipUnless(PGBOUNCER, "pgbouncer is not installed (tests/deps.sh test)")
class PoolerTest(unittest.TestCase):
    def scene(self):
        scene = Scene(shared(), partitions=2)
        scene.apply_rules(BASE_RULES)
        scene.produce([delivered("o1"), delivered("o2")])
        return scene

    def pooler(self, scene, mode, size=20):
        pooler = Pooler(scene, mode, size)
        self.addCleanup(pooler.end)
        pooler.start()
        return pooler

    @staticmethod
    def settings(pooler):
        return [pooler.ask(f"SHOW {name}") for name in ("search_path", "enable_seqscan", "statement_timeout", "jit")]

    def test_pooler__by_transaction_ends_every_command_and_leaks_nothing(self):
        scene = self.scene()
        for mode in ("transaction", "statement"):
            # One server process, so that whatever one of us sets on it the other application sees.
            pooler = self.pooler(scene, mode, size=1 if mode == "transaction" else 2)
            before = self.settings(pooler)
            options = {**scene.options, "pg.dsn": pooler.dsn(), "http.listen": ""}
            for command, code in (("run", 78), ("check", 1), ("migrate", 78), ("audit", 78)):
                with self.subTest(mode=mode, command=command):
                    done = scene.command(command, options=options, limit_s=30)
                    self.assertEqual(done.returncode, code, done.stdout + done.stderr)
                    self.assertIn("a pooler in transaction mode", done.stdout + done.stderr)
                    self.assertEqual(self.settings(pooler), before)
        self.assertEqual(ledger_totals(scene)[0], 0)

    def test_pooler__by_session_is_as_good_as_none(self):
        scene = self.scene()
        pooler = self.pooler(scene, "session")
        options = {"pg.dsn": pooler.dsn()}
        self.assertEqual(scene.command("check", options={**options, "http.listen": ""}).returncode, 0)
        with scene.worker(**options) as worker:
            scene.wait_settled(worker)
            scene.check(worker)
            self.assertEqual(worker.stop(), 0, worker.log())

    def test_pooler__changed_under_a_worker_is_seen_at_its_next_session(self):
        scene = self.scene()
        pooler = self.pooler(scene, "session")
        with scene.worker(**{"pg.dsn": pooler.dsn()}) as worker:
            scene.wait_settled(worker)
            pooler.end()
            pooler.mode = "transaction"
            pooler.start()
            before = self.settings(pooler)
            more = [delivered("o3")]
            scene.produce(more)
            worker.wait_logged("the ledger does not take a batch.*reason=\"a pooler in transaction mode")
            worker.wait_until(lambda m: m.value("dependency_up", dependency="postgresql") == 0 and
                m.value("degraded", what="ledger") == 1, 20, "it to be seen")
            self.assertEqual(self.settings(pooler), before)
            pooler.end()
            pooler.mode = "session"
            pooler.start()
            scene.wait_settled(worker)
        self.assertEqual(ledger_totals(scene), Expected([delivered("o1"), delivered("o2"), *more]).totals())


if __name__ == "__main__":
    unittest.main()
