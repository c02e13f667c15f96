"""
How `run` begins: what is an operator's mistake ends it with 78 and one line that names it; what may come by itself is
waited for, and said once. `check` finds the same things beforehand.
"""

import os
import re
import socket
import subprocess
import threading
import unittest

from stack import Scene, run_command, shared, wait_until
from stack.events import BASE_RULES, Expected, delivered, ledger_totals

CLOSED = "127.0.0.1:1"  # nobody listens there


class StartupTest(unittest.TestCase):
    def scene(self, **more):
        scene = Scene(shared(), partitions=2, **more)
        return scene

    def run_fails(self, options, *arguments, code=78):
        """`run` ends by itself with `code`. Returns its stderr."""
        done = run_command("run", *arguments, options={"http.listen": "", **options}, limit_s=30)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stderr

    def check(self, scene, code, *arguments, **options):
        """Returns {name: (ok, detail)} of `check`, whose exit code must be `code`."""
        done = run_command("check", *arguments, options={**scene.options, "http.listen": "127.0.0.1:0", **options},
            limit_s=60)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertEqual(done.stderr, "")
        lines = {}
        for line in done.stdout.splitlines():
            word, name, detail = line.split(None, 1)[0], *line.split(None, 1)[1].split(": ", 1)
            self.assertIn(word, ("ok", "fail"), line)
            self.assertNotIn(name, lines, "two lines of one name")
            lines[name] = (word == "ok", detail)
        self.assertEqual(code == 0, all(ok for ok, _ in lines.values()), done.stdout)
        return lines

    def assert_only_failure(self, lines, name, *words):
        self.assertEqual([one for one, (ok, _) in lines.items() if not ok], [name], lines)
        for word in words:
            self.assertIn(word, lines[name][1])

    def said(self, worker, *words):
        """Lines of the log with all of the words."""
        return [line for line in worker.log(10000).splitlines() if all(word in line for word in words)]

    def wait_said(self, worker, *words, limit_s=15):
        wait_until(lambda: self.said(worker, *words), limit_s, lambda: f"{words} not said\n{worker.log()}")

    def assert_waiting(self, worker):
        """Alive, not ready, and in no hurry."""
        self.assertTrue(worker.alive(), worker.log())
        self.assertEqual(worker.get("/livez")[0], 200)
        status, text = worker.get("/readyz")
        self.assertEqual(status, 503)
        self.assertIn("starting", text)

    # configuration

    def test_startup__wrong_options_name_option_value_and_bound(self):
        scene = self.scene(migrate=False)
        for key, value, words in [
                ("batch.max", "0", ["batch.max", '"0"', "1", "10000"]),
                ("batch.max", "many", ["batch.max", "many"]),
                ("workers", "65", ["workers", "65", "64"]),
                ("inflight.max_bytes", "1k", ["inflight.max_bytes", "1k"]),
                ("redis.prefix", "x" * 65, ["redis.prefix", "64"]),
                ("rate.on_outage", "panic", ["rate.on_outage", "panic", "local|wait"]),
                ("http.listen", "here", ["http.listen", "here"]),
                ("pg.schema", "Delivery", ["pg.schema", "Delivery"]),
                ("kafka.topic", "a b", ["kafka.topic", "a b"]),
                ("kafka.dlq_topic", scene.topic, ["kafka.dlq_topic", scene.topic]),
                ("kafka.fetch.wait.max.ms", "100x", ["kafka.fetch.wait.max.ms", "100x"]),
                ("kafka.no.such.property", "1", ["kafka.no.such.property"]),
                ("batch.maximum", "5", ["DW_BATCH_MAXIMUM", "DW_BATCH_MAX"])]:
            with self.subTest(key=key, value=value):
                text = self.run_fails({**scene.options, "redis.url": "", key: value})
                self.assertEqual(len(text.strip().splitlines()), 1, text)
                for word in words:
                    self.assertIn(word, text)

    def test_startup__unknown_flags_are_usage_errors(self):
        scene = self.scene(migrate=False)
        self.assertIn("--batch.mx", self.run_fails(scene.options, "--batch.mx=5", code=2))
        self.assertIn("more", self.run_fails(scene.options, "more", code=2))
        for said, *values in (
            ("TOPIC:PARTITION:FROM-TO", "topic:0"),
            (f"consumed are {scene.topic} and {scene.deferred}", "elsewhere:0:1-2"),
            ("nothing is lost", f"{scene.topic}:0:7-7"),
            ("the partition is given twice", f"{scene.topic}:1:0-7", f"{scene.deferred}:1:0-7", f"{scene.topic}:1:0-8"),
        ):
            flags = [f"--accept-loss={value}" for value in values]
            self.assertRegex(self.run_fails(scene.options, *flags, code=2),
                f"--accept-loss {re.escape(values[-1])}: .*{re.escape(said)}")

    def test_startup__properties_that_invariants_rest_on_are_refused(self):
        scene = self.scene(migrate=False)
        for name in ["enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset", "isolation.level", "acks",
                "enable.idempotence"]:
            for side in ("", "consumer.", "producer."):
                with self.subTest(name=name, side=side):
                    text = self.run_fails(scene.options, f"--kafka.{side}{name}=1")
                    self.assertIn(f"kafka.{name}", text)

    def test_startup__a_bad_redis_url_is_a_configuration_error(self):
        scene = self.scene()
        text = self.run_fails({**scene.options, "redis.url": "http://127.0.0.1:1/"})
        self.assertIn("redis.url", text)
        self.assertFalse("internal" in text or "abort" in text.lower(), text)

    def test_startup__secrets_come_from_files(self):
        scene = self.scene()
        scene.apply_rules(BASE_RULES)
        path = os.path.join(scene.stack.folder, f"{scene.name}-dsn")
        with open(path, "w", encoding="ascii") as out:
            out.write(scene.options.pop("pg.dsn") + "\n")
        good = delivered("o1")
        scene.produce([good])
        with scene.worker(**{"pg.dsn_file": path}) as worker:
            scene.wait_settled(worker)
        self.assertEqual(ledger_totals(scene), Expected([good]).totals())
        text = self.run_fails({**scene.options, "pg.dsn_file": path, "pg.dsn": "dbname=x"})
        self.assertIn("DW_PG_DSN_FILE", text)
        text = self.run_fails({**scene.options, "pg.dsn_file": path + "-none"})
        self.assertIn(path + "-none", text)

    def test_startup__http_port_taken(self):
        """`run` can't do without; `check` can't tell from a worker that runs, and says so."""
        scene = self.scene()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            listen = f"127.0.0.1:{taken.getsockname()[1]}"
            text = self.run_fails({**scene.options, "http.listen": listen})
            self.assertEqual(text.count("http.listen"), 1, text)
            self.assertIn("in use", text.lower())
            self.assertIn("taken", self.check(scene, 0, **{"http.listen": listen})["http"][1])
        # TEST-NET-1: nobody's.
        elsewhere = {"http.listen": "192.0.2.1:9464"}
        self.assertEqual(self.run_fails({**scene.options, **elsewhere}).count("http.listen"), 1)
        self.assert_only_failure(self.check(scene, 1, **elsewhere), "http", "192.0.2.1:9464")

    def test_startup__check_beside_a_running_worker(self):
        scene = self.scene()
        with scene.worker() as worker:
            worker.wait_ready()
            self.assertIn("taken", self.check(scene, 0, **{"http.listen": f"127.0.0.1:{worker.port}"})["http"][1])

    # Kafka

    def test_startup__a_port_of_something_else_is_called_that(self):
        """Each command's own word for it, not librdkafka's about the size of an answer."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            def answer():
                while True:
                    try:
                        client, _ = server.accept()
                    except OSError:
                        return
                    with client:
                        client.recv(65536)
                        client.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            threading.Thread(target=answer, daemon=True).start()
            brokers = {"kafka.brokers": f"127.0.0.1:{server.getsockname()[1]}"}
            done = run_command("lag", "--timeout", "3", options=brokers, limit_s=60)
            self.assertEqual(done.returncode, 69, done.stderr)
            self.assertIn("an HTTP server answers there, not Kafka", done.stderr)
            self.assertNotIn("receive.message.max.bytes", done.stderr)
            scene = self.scene(**brokers)
            with scene.worker() as worker:
                self.wait_said(worker, "waiting", "for=kafka", "an HTTP server answers there, not Kafka")
                self.assertEqual(self.said(worker, "receive.message.max.bytes"), [])
            server.shutdown(socket.SHUT_RDWR)

    def test_startup__a_missing_topic_is_69_for_every_command(self):
        scene = self.scene(**{"kafka.topic": "nowhere", "kafka.deferred_topic": "nowhere.deferred"})
        for arguments in (("lag",), ("audit", "--from-kafka"), ("explain", "o1", "--from-kafka")):
            with self.subTest(arguments):
                done = run_command(*arguments, options=scene.options, limit_s=60)
                self.assertEqual(done.returncode, 69, done.stdout + done.stderr)
                self.assertIn("nowhere", done.stderr)

    # PostgreSQL

    def test_startup__waits_for_postgresql_and_starts_when_it_appears(self):
        scene = self.scene()
        scene.apply_rules(BASE_RULES)
        good = delivered("o1")
        scene.produce([good])
        scene.stack.stop_postgres()
        self.addCleanup(lambda: scene.stack.postgres.process.alive() or scene.stack.start_postgres())
        self.assert_only_failure(self.check(scene, 1), "postgresql", "refused")
        with scene.worker() as worker:
            self.wait_said(worker, "waiting", "for=postgresql", "refused")
            self.assert_waiting(worker)
            # The others were not asked anything yet.
            self.assertEqual(worker.metrics().by("dependency_up", "dependency"), {"postgresql": 0})
            scene.stack.start_postgres()
            worker.wait_ready()
            self.assertEqual(len(self.said(worker, "waiting", "for=postgresql", "refused")), 1, worker.log())
            scene.wait_settled(worker)
        self.assertEqual(ledger_totals(scene), Expected([good]).totals())

    def test_startup__wrong_password_and_missing_database(self):
        scene = self.scene()
        postgres = scene.stack.postgres
        database = scene.dsn.rpartition("/")[2]
        hba = os.path.join(postgres.data, "pg_hba.conf")
        with open(hba, encoding="ascii") as lines:
            before = lines.read()

        def write_hba(text):
            with open(hba, "w", encoding="ascii") as out:
                out.write(text)
            postgres.psql("SELECT pg_reload_conf()", "postgres")

        self.addCleanup(write_hba, before)
        postgres.psql(f"ALTER ROLE {postgres.ROLE} PASSWORD 'right-one'", "postgres")
        write_hba(f"host {database} {postgres.ROLE} 127.0.0.1/32 scram-sha-256\n{before}")
        wrong = scene.dsn.replace("@", ":s3cr3t-wrong@")
        right = scene.dsn.replace("@", ":right-one@")
        # The postmaster reloads when it gets to it.
        wait_until(lambda: self.check_code(scene, **{"pg.dsn": wrong}) == 1, 10, "pg_hba.conf")
        for dsn, word in [(wrong, "password authentication failed"), (scene.dsn, "password"),
                (right + "_none", f"{database}_none")]:
            with self.subTest(word=word):
                text = self.run_fails({**scene.options, "pg.dsn": dsn})
                self.assertIn(word, text)
                lines = self.check(scene, 1, **{"pg.dsn": dsn})
                self.assert_only_failure(lines, "postgresql", word)
                for shown in (text, str(lines)):
                    self.assertNotIn("s3cr3t", shown)
                    self.assertNotIn("right-one", shown)
        self.check(scene, 0, **{"pg.dsn": right})

    def check_code(self, scene, **options):
        return run_command("check", options={**scene.options, "http.listen": "", **options}).returncode

    def test_startup__schema_missing_or_too_new(self):
        scene = self.scene(migrate=False)
        text = self.run_fails(scene.options)
        self.assertIn("delivery-worker migrate", text)
        self.assert_only_failure(self.check(scene, 1), "postgresql schema", "delivery-worker migrate")
        scene.command("migrate", check=0)
        self.check(scene, 0)
        newest = int(scene.psql("SELECT max(version) FROM schema_version")[0][0])
        # One version ahead that still suits this binary: old and new workers run side by side over one step.
        scene.psql(f"CREATE TEMP TABLE next AS SELECT * FROM schema_version WHERE version = {newest};"
            f"UPDATE next SET version = {newest + 1}, min_worker = {newest}; INSERT INTO schema_version TABLE next")
        self.check(scene, 0)
        with scene.worker() as worker:
            worker.wait_ready()
        scene.psql(f"UPDATE schema_version SET min_worker = {newest + 1} WHERE version = {newest + 1}")
        text = self.run_fails(scene.options)
        self.assertIn("too new", text)
        self.assertIn(str(newest + 1), text)
        self.assert_only_failure(self.check(scene, 1), "postgresql schema", "too new")

    def dump(self, scene):
        """The schema and all its rows, as pg_dump has them."""
        postgres = scene.stack.postgres
        done = subprocess.run([f"{postgres.binaries}/pg_dump", "-h", "127.0.0.1", "-p", str(postgres.port), "-U",
            "postgres", scene.dsn.rpartition("/")[2]], capture_output=True, text=True, check=True)
        # Newer versions put a random word into the script.
        return [line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]

    def test_startup__migrate_again_changes_nothing(self):
        scene = self.scene()
        scene.apply_rules(BASE_RULES)
        scene.produce([delivered("o1")])
        with scene.worker() as worker:
            scene.wait_settled(worker)
            self.assertEqual(worker.stop(), 0)
        before = self.dump(scene)
        self.assertTrue(any("CREATE TABLE" in line for line in before))
        again = scene.command("migrate", check=0)
        self.assertIn("nothing to do", again.stdout)
        self.assertEqual(self.dump(scene), before)

    # Kafka

    def test_startup__waits_for_topics_and_starts_when_they_are_made(self):
        scene = self.scene()
        scene.apply_rules(BASE_RULES)
        topic = f"{scene.name}-late"
        options = {"kafka.topic": topic}
        lines = self.check(scene, 1, **options)
        self.assertEqual([name for name, (ok, _) in lines.items() if not ok],
            [f"kafka topic {topic}", f"kafka topic {topic}.deferred", f"kafka topic {topic}.dlq"])
        with scene.worker(**options) as worker:
            self.wait_said(worker, "waiting", "for=kafka", topic)
            self.assert_waiting(worker)
            scene.stack.create_topic(topic, 1)
            self.wait_said(worker, "waiting", "for=kafka", f"{topic}.deferred")
            scene.stack.create_topic(f"{topic}.deferred", 1)
            self.wait_said(worker, "waiting", "for=kafka", f"{topic}.dlq")
            self.assert_waiting(worker)
            scene.stack.create_topic(f"{topic}.dlq", 1)
            worker.wait_ready()
            self.assertEqual(len(self.said(worker, "waiting", "for=kafka")), 3, worker.log())
            good = delivered("o1")
            scene.produce([good], topic=topic)
            wait_until(lambda: ledger_totals(scene) == Expected([good]).totals(), 20, worker.log)

    def test_startup__waits_for_an_unreachable_broker(self):
        scene = self.scene()
        options = {"kafka.brokers": CLOSED}
        self.assert_only_failure(self.check(scene, 1, **options), "kafka")
        with scene.worker(**options) as worker:
            self.wait_said(worker, "waiting", "for=kafka")
            self.assert_waiting(worker)
            self.assertEqual(worker.metrics().by("dependency_up", "dependency"), {"postgresql": 1, "kafka": 0})
            self.assertEqual(len(self.said(worker, "waiting", "for=kafka")), 1)
            self.assertEqual(worker.stop(), 0)

    def test_startup__compacted_topics_are_refused(self):
        scene = self.scene()
        compacted = f"{scene.name}-compacted"
        scene.stack.create_topic(compacted, 1, {"cleanup.policy": "compact"})
        others = {"kafka.deferred_topic": scene.deferred, "kafka.dlq_topic": scene.dlq}
        for options in ({"kafka.topic": compacted, **others}, {"kafka.deferred_topic": compacted},
                {"kafka.dlq_topic": compacted}):
            with self.subTest(options=options):
                text = self.run_fails({**scene.options, **options})
                self.assertIn(compacted, text)
                self.assertIn("compact", text)
                self.assert_only_failure(self.check(scene, 1, **options), f"kafka topic {compacted}", "compact")

    def test_startup__what_is_not_used_is_not_set_up(self):
        """A worker without SASL and Kerberos pays for neither: their plugins and caches are most of an idle worker."""
        scene = self.scene()
        with scene.worker() as worker:
            worker.wait_until(lambda m: m.value("assigned_partitions") > 0, 30)
            with open(f"/proc/{worker.pid}/maps", encoding="utf-8") as maps:
                libraries = {line.split()[-1] for line in maps if ".so" in line}
            self.assertTrue([path for path in libraries if "libsasl2" in path], "else this shows nothing")
            self.assertEqual([path for path in libraries if "/sasl2/" in path], [])
            self.assertEqual(worker.stop(), 0)

    # check

    def test_startup__check_of_a_good_configuration(self):
        scene = self.scene()
        lines = self.check(scene, 0)
        self.assertEqual(set(lines), {"configuration", "librdkafka", f"kafka topic {scene.topic}",
            f"kafka topic {scene.deferred}", f"kafka topic {scene.dlq}", "postgresql", "postgresql schema",
            "postgresql privileges", "redis",
            "http"})

    def test_startup__check_warns_of_too_few_classes_of_waiting(self):
        for partitions, warned in ((1, True), (3, True), (4, False)):
            scene = self.scene(deferred_partitions=partitions)
            lines = self.check(scene, 0)
            self.assertEqual({name for name, (_, detail) in lines.items() if "warning:" in detail},
                {f"kafka topic {scene.deferred}"} if warned else set())

    def test_startup__check_offline_asks_nobody(self):
        scene = self.scene(migrate=False)
        nobody = {"kafka.brokers": CLOSED, "pg.dsn": f"postgresql://x@{CLOSED}/x", "redis.url": f"redis://{CLOSED}/0"}
        lines = self.check(scene, 0, "--offline", **nobody)
        self.assertEqual(set(lines), {"configuration", "librdkafka"})
        lines = self.check(scene, 1, **nobody)
        self.assertEqual({name for name, (ok, _) in lines.items() if not ok}, {"kafka", "postgresql", "redis"})
        self.assertEqual(run_command("check", "--offline", options={"batch.max": "0"}).returncode, 78)

    def test_startup__check_offline_reads_what_is_for_connections(self):
        for key, value in (("pg.dsn", "s3cr3t"), ("pg.dsn", "postgresql://u:s3cr3t@x@h/d"),
                ("redis.url", "s3cr3t://h")):
            with self.subTest(key=key, value=value):
                done = run_command("check", "--offline", options={key: value})
                self.assertEqual(done.returncode, 1)
                self.assertRegex(done.stdout, rf"^fail configuration: {key}")
                self.assertNotIn("s3cr3t", done.stdout + done.stderr)
        for dsn in ("", "host=h dbname=d", "postgresql://u:p%40w@h/d"):
            self.assertEqual(run_command("check", "--offline", options={"pg.dsn": dsn}).returncode, 0, dsn)

    def test_startup__check_finds_redis(self):
        scene = self.scene()
        lines = self.check(scene, 1, **{"redis.url": f"redis://:s3cr3t@{CLOSED}/0"})
        self.assert_only_failure(lines, "redis", CLOSED)
        self.assertNotIn("s3cr3t", str(lines))
        self.assertTrue(self.check(scene, 0, **{"redis.url": ""})["redis"][0])


if __name__ == "__main__":
    unittest.main()
