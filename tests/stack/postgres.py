"""A private PostgreSQL cluster: trust on loopback, durable as in production, thrown away at the end."""

import csv
import errno
import glob
import io
import itertools
import os
import re
import shutil
import signal
import subprocess

from .process import Server, StackError, unprivileged_user

SETTINGS = """
listen_addresses = '127.0.0.1'
max_connections = 100
shared_buffers = 256MB
fsync = on
synchronous_commit = on
max_wal_size = 4GB
checkpoint_timeout = 15min
log_line_prefix = '%m [%p] %a '
log_lock_waits = on
timezone = 'UTC'
"""


def find_binaries():
    """The folder of initdb and postgres: Debian's newest, else where PATH leads."""
    found = glob.glob("/usr/lib/postgresql/*/bin/initdb")
    if found:
        return os.path.dirname(max(found, key=lambda path: int(path.split("/")[4])))
    initdb = shutil.which("initdb")
    if not initdb:
        raise StackError("initdb not found: PostgreSQL's server is not installed (make deps)")
    return os.path.dirname(os.path.realpath(initdb))


class Postgres(Server):
    ROLE = "delivery"  # what workers connect as: no superuser, owns its databases
    DATABASE_OPTIONS = ""
    START_LIMIT_S = 180  # after a crash: the log of every database made since the last checkpoint is replayed

    def __init__(self, folder, keeper, name="postgres"):
        # An immediate shutdown ends the backends too and frees the shared memory, which SIGKILL does not.
        super().__init__(name, folder, keeper, signal.SIGQUIT)
        self.user = unprivileged_user()
        self.binaries = find_binaries()
        self.data = os.path.join(folder, name)
        self.settings = SETTINGS  # before it is started first
        self.numbers = itertools.count(1)

    def _identity(self):
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if self.user else {}

    def init(self):
        os.mkdir(self.data, 0o700)
        sockets = os.path.join(self.folder, "socket")
        os.makedirs(sockets, exist_ok=True)
        if self.user:
            for path in (self.data, sockets):
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
        made = subprocess.run(
            [f"{self.binaries}/initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C",
                "--no-sync"],
            capture_output=True, text=True, cwd="/", **self._identity())
        if made.returncode:
            raise StackError(f"initdb: {made.stderr}")
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="ascii") as conf:
            conf.write(self.settings + f"unix_socket_directories = '{sockets}'\n")

    def launch(self):
        self.process.launch([f"{self.binaries}/postgres", "-D", self.data, "-p", str(self.port)], user=self.user)

    def ready(self):
        try:
            return self.psql("SHOW data_directory", "postgres")[0][0] == self.data
        except StackError:
            return False

    def stop(self):
        """A fast shutdown: sessions are cut, nothing is lost."""
        self.process.stop(signal.SIGINT, 30)

    def crash(self):
        """An immediate shutdown: the next start recovers from the log."""
        self.process.stop(signal.SIGQUIT, 30)

    def restart(self):
        self.stop()
        self.start()

    def dsn(self, database):
        return f"postgresql://{self.ROLE}@localhost:{self.port}/{database}"

    @staticmethod
    def database_of(dsn):
        """The name in a DSN of ours, or the name itself."""
        return re.sub(r"^.*/", "", dsn)

    def new_database(self, name=None):
        """Creates an empty database that the workers' role owns. Returns its name."""
        name = name or f"ledger_{next(self.numbers)}"
        self.psql(f"CREATE DATABASE {name} OWNER {self.ROLE} {self.DATABASE_OPTIONS}", "postgres")
        return name

    def psql(self, sql, database):
        """Runs SQL as superuser. Returns rows of text, NULL as None. `database` may be a DSN of this server."""
        database = self.database_of(database)
        command = ["psql", "-X", "-q", "-t", "--csv", "-P", "null=\\N", "-v", "ON_ERROR_STOP=1",
            "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database]
        env = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        env["PGOPTIONS"] = "-c search_path=delivery,public"
        env["PGCONNECT_TIMEOUT"] = "10"
        done = subprocess.run(command, input=sql, capture_output=True, text=True, env=env)
        if done.returncode:
            raise StackError(f"psql: {done.stderr.strip()}")
        return [tuple(None if cell == "\\N" else cell for cell in row) for row in csv.reader(io.StringIO(done.stdout))]

    def save(self, name):
        """Copies the cluster as it is after a clean stop, and goes on: a backup to restore later."""
        self.stop()
        self._copy(self.data, os.path.join(self.folder, f"backup-{name}"))
        self.start()

    def restore(self, name):
        """Puts a saved copy in the cluster's place: what was committed since is gone."""
        self.stop()
        shutil.rmtree(self.data)
        self._copy(os.path.join(self.folder, f"backup-{name}"), self.data)
        self.start()

    @staticmethod
    def _copy(source, target):
        # cp keeps the owner, which shutil.copytree does not.
        subprocess.run(["cp", "-a", source, target], check=True)


class Standby(Postgres):
    """
    A streaming copy of a running server, taken and followed over `port_to_source`, which may be a proxy's. Its
    databases are the source's. Until promote() it is in recovery and serves reading.
    """

    def __init__(self, source, name, port_to_source):
        super().__init__(source.folder, source.process.keeper, name)
        self.source = source
        self.port_to_source = port_to_source

    def init(self):
        os.mkdir(self.data, 0o700)
        if self.user:
            os.chown(self.data, self.user.pw_uid, self.user.pw_gid)
        # The socket's folder comes with the configuration: its file is named after the port.
        made = subprocess.run(
            [f"{self.binaries}/pg_basebackup", "-D", self.data, "-h", "127.0.0.1", "-p", str(self.port_to_source),
                "-U", "postgres", "-X", "stream", "-c", "fast", "-R", "--no-sync"],
            capture_output=True, text=True, cwd="/", **self._identity())
        if made.returncode:
            raise StackError(f"pg_basebackup: {made.stderr}")

    def replayed(self):
        """The position up to which it has what the source had, as a number."""
        return int(self.psql("SELECT pg_last_wal_replay_lsn() - '0/0'::pg_lsn", "postgres")[0][0])

    def promote(self):
        """Makes it a primary, on a timeline of its own; returns when it takes writes."""
        if self.psql("SELECT pg_promote(true, 60)", "postgres") != [("t",)]:
            raise StackError(f"not promoted\n{self.process.tail()}")
        self.numbers = self.source.numbers


class SmallDiskPostgres(Postgres):
    """
    A cluster whose databases are on a tmpfs of their own, which can be filled. It is mounted in the server's own mount
    namespace and gone with it, databases included; where we are not root, in a user namespace.
    """

    DISK_MIB = 48
    DATABASE_OPTIONS = "TABLESPACE small"

    def __init__(self, folder, keeper, name="postgres-small"):
        super().__init__(folder, keeper, name)
        self.disk = os.path.join(folder, f"{name}-disk")

    def init(self):
        super().init()
        os.mkdir(self.disk, 0o755)

    def launch(self):
        server = [f"{self.binaries}/postgres", "-D", self.data, "-p", str(self.port)]
        options = f"size={self.DISK_MIB}m,mode=700"
        alone = ["unshare", "--mount"]
        if self.user:
            options += f",uid={self.user.pw_uid},gid={self.user.pw_gid}"
            server = ["setpriv", f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--clear-groups",
                *server]
        else:
            alone += ["--user", "--map-current-user", "--keep-caps"]
        self.process.launch([*alone, "sh", "-c", 'mount -t tmpfs -o "$1" none "$0" && shift && exec "$@"', self.disk,
            options, *server])

    def start(self):
        super().start()
        self.psql(f"CREATE TABLESPACE small LOCATION '{self.disk}'", "postgres")

    def _filler(self):
        return f"/proc/{self.process.pid}/root{self.disk}/filler"

    def fill(self):
        """Leaves not one page."""
        with open(self._filler(), "wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError as full:
                if full.errno != errno.ENOSPC:
                    raise

    def free(self):
        if os.path.exists(self._filler()):
            os.unlink(self._filler())
