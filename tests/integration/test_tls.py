"""
TLS to PostgreSQL and Redis: who answers must be who was asked, nothing secret leaves the machine in clear unless an
operator says so, and a wrong port is called one. Certificates are made here, servers are real.
"""

import os
import shutil
import socket
import subprocess
import threading
import unittest

from stack import shared
from stack.postgres import Postgres
from stack.process import free_port, wait_until
from stack.stack import make_folder
from stack.worker import run_command

NOBODY = {"kafka.brokers": "127.0.0.1:1", "http.listen": "", "pg.dsn": "host=127.0.0.1 port=1", "redis.url": ""}


class Certificates:
    """An authority, and certificates of its own for any host."""

    def __init__(self, folder):
        self.folder = folder
        self.ca = self.path("ca.pem")
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=test authority", "-keyout", self.path("ca.key"), "-out", self.ca)

    def path(self, name):
        return os.path.join(self.folder, name)

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)

    def issue(self, name, names, owner=None):
        """`names`: as in DNS:localhost,IP:127.0.0.1. Returns the paths of certificate and key."""
        cert, key, request = self.path(f"{name}.pem"), self.path(f"{name}.key"), self.path(f"{name}.csr")
        extensions = self.path(f"{name}.ext")
        with open(extensions, "w", encoding="ascii") as out:
            out.write(f"subjectAltName={names}\n")
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}",
            "-keyout", key, "-out", request)
        self.openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.path("ca.key"), "-CAcreateserial",
            "-days", "2", "-extfile", extensions, "-out", cert)
        os.chmod(key, 0o600)
        if owner:
            os.chown(key, owner.pw_uid, owner.pw_gid)
        return cert, key


def line_of(name, options):
    """`check`'s line of one name: (word, detail)."""
    done = run_command("check", options={**NOBODY, "kafka.brokers": shared().brokers, **options})
    for line in done.stdout.splitlines():
        word, rest = line.split(None, 1)
        if rest.startswith(f"{name}: "):
            return word, rest[len(name) + 2:]
    return None, done.stdout + done.stderr


class TlsCase(unittest.TestCase):
    def folder(self):
        folder = make_folder()
        self.addCleanup(shutil.rmtree, folder, True)
        return folder


class RedisTlsTest(TlsCase):
    @classmethod
    def setUpClass(cls):
        done = run_command("check", "--offline", options={**NOBODY, "redis.url": "rediss://localhost"})
        if "is not in this build" in done.stdout:
            raise unittest.SkipTest("this build's hiredis has no TLS: " + done.stdout.splitlines()[0])

    def serve(self, certificates, cert, key):
        """A Redis that speaks TLS only, and asks for a certificate. Returns its port."""
        port = free_port()
        log = open(certificates.path("redis.log"), "wb")
        self.addCleanup(log.close)
        server = subprocess.Popen(["redis-server", "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--save",
            "", "--appendonly", "no", "--dir", certificates.folder, "--tls-cert-file", cert, "--tls-key-file", key,
            "--tls-ca-cert-file", certificates.ca, "--tls-auth-clients", "yes"], stdout=log, stderr=log)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)

        def ready():
            with open(log.name, "rb") as lines:
                return b"Ready to accept" in lines.read()

        wait_until(ready, 20, "Redis with TLS")
        return port

    def test_tls__redis_is_who_was_asked(self):
        made = Certificates(self.folder())
        mine = made.issue("worker", "DNS:worker")
        other = Certificates(self.folder())
        files = {"redis.tls.ca": made.ca, "redis.tls.cert": mine[0], "redis.tls.key": mine[1]}
        for names, host, options, word, says in (
                ("DNS:localhost", "localhost", files, "ok", "hiredis"),
                ("IP:127.0.0.1", "127.0.0.1", files, "ok", "hiredis"),
                ("DNS:elsewhere", "localhost", files, "fail", "hostname mismatch"),
                ("DNS:localhost", "127.0.0.1", files, "fail", "IP address mismatch"),
                ("DNS:localhost", "localhost", {**files, "redis.tls.ca": other.ca}, "fail", "certificate"),
                ("DNS:localhost", "localhost", {}, "fail", "certificate"),
                ("DNS:localhost", "localhost", {"redis.tls.ca": made.ca}, "fail", ""),
                ("DNS:localhost", "localhost", {**files, "redis.tls.key": made.path("none")}, "fail", "redis.tls.key"),
                ("DNS:localhost", "localhost", {**files, "redis.tls.ca": made.path("none")}, "fail", "redis.tls.ca")):
            with self.subTest(names=names, host=host, options=options):
                port = self.serve(made, *made.issue("server", names))
                found, detail = line_of("redis", {**options, "redis.url": f"rediss://{host}:{port}/0",
                    "redis.timeout_ms": 5000})
                self.assertEqual(found, word, detail)
                self.assertIn(says, detail)


class RedisPlainTest(TlsCase):
    def test_tls__redis_gets_no_password_in_clear_unless_told_so(self):
        url = "redis://:s3cr3t@192.0.2.1:6379/0"  # TEST-NET-1: nobody's
        done = run_command("run", options={**NOBODY, "redis.url": url}, limit_s=20)
        self.assertEqual(done.returncode, 78)
        self.assertIn("redis.plain_password", done.stderr)
        self.assertNotIn("s3cr3t", done.stderr)
        done = run_command("check", "--offline", options={**NOBODY, "redis.url": url}, limit_s=20)
        self.assertEqual(done.returncode, 1)
        done = run_command("check", "--offline", options={**NOBODY, "redis.url": url, "redis.plain_password": "allow"})
        self.assertEqual(done.returncode, 0)
        self.assertIn("warn redis tls: ", done.stdout)


class PostgresTlsTest(TlsCase):
    def server(self, names, folder):
        made = Certificates(folder)
        stack = shared()
        server = Postgres(folder, stack.janitor, f"postgres-{stack.number()}")
        cert, key = made.issue("server", names, server.user)
        server.settings += f"ssl = on\nssl_cert_file = '{cert}'\nssl_key_file = '{key}'\n"
        server.init()
        self.addCleanup(server.end)
        server.start()
        server.psql(f"CREATE ROLE {Postgres.ROLE} LOGIN", "postgres")
        return server, made

    def test_tls__postgresql_is_who_was_asked(self):
        server, made = self.server("DNS:localhost", self.folder())
        for host, more, word, says in (
                ("localhost", f"sslmode=verify-full&sslrootcert={made.ca}", "fail", "holds no ledger"),
                ("127.0.0.1", f"sslmode=verify-full&sslrootcert={made.ca}", "fail", "does not match host name"),
                ("0.0.0.0", "", "fail", "holds no ledger")):  # another machine, by its name; served with TLS
            with self.subTest(host=host, more=more):
                dsn = f"postgresql://{server.ROLE}@{host}:{server.port}/postgres?{more}"
                name = "postgresql schema" if "ledger" in says else "postgresql"
                found, detail = line_of(name, {"pg.dsn": dsn})
                self.assertEqual(found, word, detail)
                self.assertIn(says, detail)
        server.psql("ALTER SYSTEM SET ssl = off; SELECT pg_reload_conf()", "postgres")
        wait_until(lambda: server.psql("SHOW ssl", "postgres") == [("off",)], 10, "TLS to be off")
        dsn = f"postgresql://{server.ROLE}@0.0.0.0:{server.port}/postgres"
        done = run_command("run", options={**NOBODY, "pg.dsn": dsn}, limit_s=30)
        self.assertEqual(done.returncode, 78, done.stderr)
        self.assertIn("SSL was required", done.stderr)
        self.assertIn("sslmode=disable", done.stderr)
        self.assertEqual(line_of("postgresql", {"pg.dsn": f"{dsn}?sslmode=disable"})[0], "ok")

    def test_tls__postgresql_check_warns_of_what_is_weak(self):
        for dsn, says in (("postgresql://u@h/d", "no sslmode"), ("host=10.0.0.1 sslmode=prefer", "in clear"),
                ("host=/run,h sslmode=disable", "in clear"), ("host=h sslmode=require", "whoever answers"),
                ("host=h sslmode=verify-full", None), ("host=h hostaddr=127.0.0.1", None), ("host=localhost", None),
                ("host=/run/postgresql", None), ("", None)):
            with self.subTest(dsn=dsn):
                done = run_command("check", "--offline", options={**NOBODY, "pg.dsn": dsn})
                self.assertEqual(done.returncode, 0, done.stdout)
                lines = [line for line in done.stdout.splitlines() if line.startswith("warn ")]
                self.assertEqual(len(lines), 1 if says else 0, done.stdout)
                if says:
                    self.assertIn(says, lines[0])


class WrongPortTest(TlsCase):
    def answer(self, connection):
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    def test_tls__a_wrong_port_is_called_one(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

            def serve():
                while True:
                    try:
                        self.answer(listener.accept()[0])
                    except OSError:
                        return

            threading.Thread(target=serve, daemon=True).start()
            for name, options in (("redis", {"redis.url": f"redis://127.0.0.1:{port}"}),
                    ("postgresql", {"pg.dsn": f"postgresql://u@127.0.0.1:{port}/d?sslmode=disable"}),
                    ("postgresql", {"pg.dsn": f"postgresql://u@127.0.0.1:{port}/d"})):
                with self.subTest(options=options):
                    word, detail = line_of(name, options)
                    self.assertEqual(word, "fail")
                    self.assertIn("is it the port?", detail)


if __name__ == "__main__":
    unittest.main()
