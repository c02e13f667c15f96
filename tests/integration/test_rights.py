"""
Rights: deploy/sql/roles.sql grants the worker's role all that `run` needs and nothing else, and `check` names whatever is
missing. Both lists, of the script and of worker/ledger/privileges.c, are held against each other and against a worker.
"""

import os
import subprocess
import unittest

from stack import ROOT, Scene, run_command, shared, wait_until
from stack.events import BASE_RULES, Expected, delivered, event, ledger_totals

SCRIPT = os.path.join(ROOT, "deploy", "sql", "roles.sql")

# What anybody may do until it is taken away: from PUBLIC, too.
FOR_ANYBODY = [("EXECUTE", "FUNCTION expect_rows(bigint, bigint)"), ("SELECT", "TABLE pg_database"),
    ("EXECUTE", "FUNCTION pg_control_system()"), ("EXECUTE", "FUNCTION pg_walfile_name(pg_lsn)"),
    ("EXECUTE", "FUNCTION pg_current_wal_insert_lsn()"), ("EXECUTE", "FUNCTION pg_current_wal_flush_lsn()")]


class RightsTest(unittest.TestCase):
    def scene(self):
        """Its schema is made and owned by a role for that, its worker has a role of its own."""
        scene = Scene(shared(), partitions=2, migrate=False)
        self.migrator, self.worker = f"{scene.name}_migrator", f"{scene.name}_worker"
        owner = {"pg.dsn": self.dsn_of(scene, self.migrator)}
        self.apply_script(scene)
        scene.command("migrate", options=owner, check=0)
        self.apply_script(scene)
        scene.options["pg.dsn"] = owner["pg.dsn"]
        scene.apply_rules({**BASE_RULES, "partners": [{"partner_id": "slow", "per_second": 1, "burst": 1}]})
        scene.options["pg.dsn"] = self.dsn_of(scene, self.worker)
        scene.options["rate.defer_ms"] = 100
        return scene

    @staticmethod
    def dsn_of(scene, role):
        return scene.dsn.replace(f"//{scene.postgres.ROLE}@", f"//{role}@")

    def apply_script(self, scene):
        done = subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", f"migrator={self.migrator}", "-v",
            f"worker={self.worker}", "-h", "127.0.0.1", "-p", str(scene.postgres.port), "-U", "postgres", "-d",
            scene.postgres.database_of(scene.dsn), "-f", SCRIPT], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def rights(self, scene):
        """(privilege, object) of all that the script gave the worker's role, as GRANT and REVOKE name them."""
        return scene.psql(f"""
            SELECT privilege_type, 'SCHEMA ' || nspname FROM pg_namespace n, aclexplode(nspacl) a
            WHERE a.grantee = '{self.worker}'::regrole
            UNION ALL SELECT privilege_type, 'TABLE ' || oid::regclass FROM pg_class c, aclexplode(relacl) a
            WHERE a.grantee = '{self.worker}'::regrole
            UNION ALL SELECT privilege_type, 'FUNCTION ' || oid::regprocedure FROM pg_proc p, aclexplode(proacl) a
            WHERE a.grantee = '{self.worker}'::regrole ORDER BY 2, 1""")

    def lacking(self, scene):
        """What `check` says of privileges, "" when it is content; all else must be well."""
        lines = run_command("check", options={**scene.options, "http.listen": ""}).stdout.splitlines()
        failed = [line for line in lines if line.startswith("fail ")]
        for line in failed:
            self.assertTrue(line.startswith("fail postgresql privileges: "), line)
        return failed[0] if failed else ""

    def test_rights__of_the_script_are_enough_for_all_that_run_does(self):
        scene = self.scene()
        self.assertEqual(self.lacking(scene), "")
        good = [delivered(f"o{i}", partner_id=f"p{i % 3}") for i in range(20)]
        slow = [delivered(f"s{i}", partner_id="slow") for i in range(3)]
        scene.produce(good)
        with scene.worker() as worker:
            scene.wait_settled(worker)
            epoch = scene.epoch()
            scene.psql("UPDATE history SET timeline = '00000000'")
            # Nothing is written while nothing comes, and it is found all the same.
            wait_until(lambda: scene.epoch() != epoch, 20, worker.log)
            scene.produce([*slow, *good, event("o1"), b"{}"])
            scene.wait_settled(worker)
            self.assertEqual(ledger_totals(scene), Expected(good + slow).totals())
            scene.check(worker)
            self.assertGreater(worker.metrics().value("records_settled_total", outcome="deferred"), 0)
            self.assertNotIn("permission denied", worker.log(10000))
            self.assertEqual(worker.stop(), 0, worker.log())

    def test_rights__each_that_is_taken_away_is_named(self):
        scene = self.scene()
        rights = self.rights(scene)
        self.assertLessEqual(set(FOR_ANYBODY), {(privilege, thing.replace("bigint,bigint", "bigint, bigint"))
            for privilege, thing in rights})
        for privilege, thing in rights:
            public = ", PUBLIC" if thing.startswith("FUNCTION") or thing == "TABLE pg_database" else ""
            with self.subTest(privilege=privilege, thing=thing):
                scene.psql(f"REVOKE {privilege} ON {thing} FROM {self.worker}{public}")
                name = thing.partition(" ")[2].partition("(")[0]
                self.assertRegex(self.lacking(scene), rf"lacks [^:]*: {privilege} on [a-z ]*{name} \([^()]*\)$")
                scene.psql(f"GRANT {privilege} ON {thing} TO {self.worker}{public}")
        self.assertEqual(self.lacking(scene), "")

    def test_rights__a_new_table_is_the_workers_or_named_here(self):
        """Who adds a table says whether `run` needs it: in privileges.c and roles.sql, or here."""
        scene = self.scene()
        tables = {name for name, in scene.psql("SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') "
            "AND relnamespace = 'delivery'::regnamespace")}
        granted = {thing.rpartition(".")[2].rpartition(" ")[2] for _, thing in self.rights(scene)}
        self.assertEqual(tables - granted, set())

    def test_rights__of_a_reader_are_not_enough(self):
        scene = self.scene()
        scene.psql(f"REVOKE ALL ON ALL TABLES IN SCHEMA delivery FROM {self.worker};"
            f"GRANT SELECT ON ALL TABLES IN SCHEMA delivery TO {self.worker}")
        said = self.lacking(scene)
        for what in ("UPDATE on history", "INSERT on orders", "UPDATE on orders", "INSERT on posted",
                "INSERT on balances", "UPDATE on progress", "DELETE on witnesses"):
            self.assertIn(what, said)
        self.assertNotIn("SELECT on", said)
        done = run_command("run", options={**scene.options, "http.listen": ""}, limit_s=30)
        self.assertEqual(done.returncode, 78, done.stderr)
        self.assertIn("lacks", done.stderr)
        self.assertIn("UPDATE on history", done.stderr)

    def test_rights__lost_while_it_runs_are_seen_and_waited_for(self):
        scene = self.scene()
        good = [delivered("o1"), delivered("o2")]
        with scene.worker() as worker:
            worker.wait_ready()
            scene.psql(f"REVOKE UPDATE ON history FROM {self.worker};"
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{self.worker}'")
            scene.produce(good)
            worker.wait_until(lambda m: m.value("degraded", what="ledger") == 1 and
                m.value("dependency_up", dependency="postgresql") == 0, 20, "the worker to be degraded")
            worker.wait_logged(r"lacks .*UPDATE on history")
            wait_until(lambda: worker.get("/readyz")[0] == 503, 10, "/readyz at 503")
            scene.psql(f"GRANT UPDATE ON history TO {self.worker}")
            scene.wait_settled(worker)
            worker.wait_until(lambda m: m.value("degraded") == 0, 20, "the worker to be well again")
        self.assertEqual(ledger_totals(scene), Expected(good).totals())


if __name__ == "__main__":
    unittest.main()
