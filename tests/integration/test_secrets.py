"""
Rotated secrets: a file of DW_..._FILE is read again for each new connection, so a worker whose password has been changed
goes on when its old sessions end, without a restart.
"""

import os
import socket
import struct
import threading
import unittest

from stack import Scene, shared, wait_until
from stack.events import BASE_RULES, Expected, delivered, ledger_totals


class Broker:
    """As much of a broker as it takes to be told a password: it refuses all of them (SaslHandshake 0, PLAIN)."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.told = set()
        threading.Thread(target=self.serve, daemon=True).start()

    def close(self):
        self.listener.close()

    def serve(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.listen, args=(connection,), daemon=True).start()

    def listen(self, connection):
        """ApiVersions (18) as of version 0, then SaslHandshake (17) of version 0, then the password, raw."""
        with connection, connection.makefile("rb") as stream:
            while True:
                request = self.frame(stream)
                if len(request) < 8:
                    return
                key, version = struct.unpack(">hh", request[:4])
                if key == 18:
                    answer = struct.pack(">hi", 35 if version else 0, 2) + struct.pack(">6h", 17, 0, 0, 18, 0, 0)
                else:
                    answer = struct.pack(">hih", 0, 1, 5) + b"PLAIN"
                answer = request[4:8] + answer
                connection.sendall(struct.pack(">i", len(answer)) + answer)
                if key != 18:
                    break
            self.told.add(self.frame(stream).decode())

    @staticmethod
    def frame(stream):
        head = stream.read(4)
        return stream.read(struct.unpack(">i", head)[0]) if len(head) == 4 else b""


class SecretsTest(unittest.TestCase):
    def scene(self):
        scene = Scene(shared(), partitions=2)
        scene.apply_rules(BASE_RULES)
        self.sent = []
        return scene

    def write(self, scene, name, text):
        """As a kubelet does it: another file takes the name."""
        path = os.path.join(scene.stack.folder, f"{scene.name}-{name}")
        with open(f"{path}.new", "w", encoding="ascii") as out:
            out.write(text + "\n")
        os.replace(f"{path}.new", path)
        return path

    def goes_on(self, scene, worker):
        more = [delivered(f"o{len(self.sent)}")]
        self.sent += more
        scene.produce(more)
        scene.wait_settled(worker, limit_s=30)
        self.assertEqual(ledger_totals(scene), Expected(self.sent).totals())

    def test_secrets__postgresql(self):
        scene = self.scene()
        postgres = scene.stack.postgres
        role, database = f"{scene.name}_role", postgres.database_of(scene.dsn)
        hba = os.path.join(postgres.data, "pg_hba.conf")
        with open(hba, encoding="ascii") as lines:
            before = lines.read()

        def write_hba(text):
            with open(hba, "w", encoding="ascii") as out:
                out.write(text)
            postgres.psql("SELECT pg_reload_conf()", "postgres")

        def dsn(password):
            return f"postgresql://{role}:{password}@127.0.0.1:{postgres.port}/{database}"

        self.addCleanup(write_hba, before)
        postgres.psql(f"CREATE ROLE {role} LOGIN PASSWORD 'first' IN ROLE {postgres.ROLE}", "postgres")
        write_hba(f"host {database} {role} 127.0.0.1/32 scram-sha-256\n{before}")
        del scene.options["pg.dsn"]
        path = self.write(scene, "dsn", dsn("wrong"))
        options = {**scene.options, "pg.dsn_file": path, "http.listen": ""}
        wait_until(lambda: "password authentication failed" in scene.command("check", options=options).stdout, 10,
            "pg_hba.conf")
        self.write(scene, "dsn", dsn("first"))
        with scene.worker(**{"pg.dsn_file": path}) as worker:
            self.goes_on(scene, worker)
            postgres.psql(f"ALTER ROLE {role} PASSWORD 'second'", "postgres")
            end = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{role}'"
            self.write(scene, "dsn", dsn("second"))
            self.assertGreater(int(scene.psql(end)[0][0]), 0)
            self.goes_on(scene, worker)
            # The file comes later than the password: waited for.
            postgres.psql(f"ALTER ROLE {role} PASSWORD 'third'", "postgres")
            scene.psql(end)
            worker.wait_until(lambda m: m.value("dependency_up", dependency="postgresql") == 0, 20, "it to be missed")
            self.write(scene, "dsn", dsn("third"))
            self.goes_on(scene, worker)
            worker.wait_until(lambda m: m.value("degraded") == 0 and m.value("dependency_up") == 3, 20, "all to be well")
            for password in ("first", "second", "third"):
                self.assertNotIn(password, worker.log(10000))

    def test_secrets__redis(self):
        scene = self.scene()
        redis = scene.stack.redis
        user = f"{scene.name}-user"

        def url(password):
            return f"redis://{user}:{password}@127.0.0.1:{redis.port}/0"

        redis.command("ACL", "SETUSER", user, "on", ">first", "~*", "+@all")
        self.addCleanup(redis.command, "ACL", "DELUSER", user)
        del scene.options["redis.url"]
        path = self.write(scene, "redis", url("first"))
        with scene.worker(**{"redis.url_file": path}) as worker:
            self.goes_on(scene, worker)
            worker.wait_until(lambda m: m.value("redis_requests_total", op="mark", result="ok") > 0, 20, "a mark")
            redis.command("ACL", "SETUSER", user, "resetpass", ">second")
            self.write(scene, "redis", url("second"))
            self.assertGreater(redis.command("CLIENT", "KILL", "USER", user), 0)
            marked = worker.metrics().value("redis_requests_total", op="mark", result="ok")
            self.goes_on(scene, worker)
            worker.wait_until(lambda m: m.value("redis_requests_total", op="mark", result="ok") > marked and
                m.value("degraded") == 0, 20, "marks to go on")
            # The file comes later than the password.
            redis.command("ACL", "SETUSER", user, "resetpass", ">third")
            redis.command("CLIENT", "KILL", "USER", user)
            self.goes_on(scene, worker)
            worker.wait_logged("redis is down.*WRONGPASS")
            self.write(scene, "redis", url("third"))
            worker.wait_until(lambda m: m.value("dependency_up", dependency="redis") == 1, 20, "Redis to be back")
            self.goes_on(scene, worker)

    def test_secrets__sasl(self):
        scene = self.scene()
        broker = Broker()
        self.addCleanup(broker.close)
        path = self.write(scene, "sasl", "first")
        options = {"kafka.brokers": f"127.0.0.1:{broker.port}", "kafka.security.protocol": "sasl_plaintext",
            "kafka.sasl.mechanisms": "PLAIN", "kafka.sasl.username": "ana", "kafka.sasl.password_file": path}
        with scene.worker(**options) as worker:
            wait_until(lambda: "\0ana\0first" in broker.told, 20, worker.log)
            self.write(scene, "sasl", "second")
            wait_until(lambda: "\0ana\0second" in broker.told, 30, worker.log)
            self.assertNotIn("second", worker.log(10000))


if __name__ == "__main__":
    unittest.main()
