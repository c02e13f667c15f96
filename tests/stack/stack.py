"""
The servers that the worker needs, private and in one temporary folder: Kafka, PostgreSQL, Redis.

    with Stack(kafka="apache") as s:
        s.create_topic("delivery-events", 6)
        dsn = s.new_database()
        ... s.brokers, s.redis_url ...

`make demo`, `up`, `test` and the measurements all start their servers here. At the end of the block, after
an exception, a signal or the death of this process nothing is left: neither a process nor a file.
"""

import atexit
import concurrent.futures
import os
import shutil
import stat
import tempfile
import threading

from . import traffic
from .kafka import ApacheKafka, KafkaCluster, MockKafka
from .postgres import Postgres
from .process import Janitor, Process, StackError
from .redis import Redis

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BROKERS = {"apache": ApacheKafka, "cluster": KafkaCluster, "mock": MockKafka}


def build_folder():
    """Where make put the binary and the tools: DW_TEST_BUILD, or build/."""
    return os.path.abspath(os.environ.get("DW_TEST_BUILD") or os.path.join(ROOT, "build"))


def data_folder():
    """The data sets that tests may use, which the tree does not carry; None when they are not here."""
    folder = os.environ.get("DW_TEST_DATA") or os.path.join(os.path.dirname(ROOT), "shared", "data")
    return folder if os.path.isdir(folder) else None


def make_folder():
    """A temporary folder that the servers' user can reach, also when TMPDIR is private to us."""
    base = os.path.realpath(tempfile.gettempdir())
    path = base
    while os.geteuid() == 0 and path != "/":
        if not os.stat(path).st_mode & stat.S_IXOTH:
            base = "/tmp"
            break
        path = os.path.dirname(path)
    folder = tempfile.mkdtemp(prefix="delivery-worker-", dir=base)
    os.chmod(folder, 0o711)
    return folder


class Stack:
    def __init__(self, kafka="apache", redis=True, postgres=True, folder=None):
        self.folder = folder or make_folder()
        self.janitor = Janitor(self.folder)
        tools = os.path.join(build_folder(), "tests", "tools")
        self.kafka = BROKERS[kafka](self.folder, self.janitor, tools) if kafka else None
        self.postgres = Postgres(self.folder, self.janitor) if postgres else None
        self.redis = Redis(self.folder, self.janitor) if redis else None
        self.workers = []
        self.closed = False
        self._numbers = 0
        self._lock = threading.Lock()
        self.database = "delivery"

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def servers(self):
        return [server for server in (self.kafka, self.postgres, self.redis) if server]

    def start(self):
        """Starts all servers, at the same time: the slowest costs some 5 s."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for started in [pool.submit(self._start_one, server) for server in self.servers()]:
                started.result()
        if self.postgres:
            self.postgres.psql(f"CREATE ROLE {Postgres.ROLE} LOGIN", "postgres")
            self.new_database(self.database)

    @staticmethod
    def _start_one(server):
        server.init()
        server.start()

    def close(self):
        """Ends everything at once and removes the folder. Safe to call again."""
        if self.closed:
            return
        self.closed = True
        for each in [worker.process for worker in self.workers] + self.servers():
            each.end()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.janitor.dismiss()

    def detach(self):
        """Leaves the servers running when this process ends."""
        self.closed = True
        self.janitor.dismiss()

    def number(self):
        """A number that this stack gave to nobody else: for names of topics, databases, files."""
        with self._lock:
            self._numbers += 1
            return self._numbers

    def new_process(self, name):
        return Process(name, os.path.join(self.folder, f"{name}.log"), self.janitor)

    # Kafka

    @property
    def brokers(self):
        return self.kafka.brokers

    def create_topic(self, name, partitions, config=None):
        pairs = ",".join(f"{key}={value}" for key, value in (config or {}).items())
        self.kafka.topics("create", f"{name}:{partitions}" + (f":{pairs}" if pairs else ""))

    def create_topics(self, partitions):
        """Creates the topics of {name: partitions}."""
        self.kafka.topics("create", *(f"{name}:{count}" for name, count in partitions.items()))

    def grow_topic(self, name, partitions):
        self.kafka.topics("grow", f"{name}:{partitions}")

    def configure_topic(self, name, key, value):
        """Sets one property of a topic; all its others go back to their defaults."""
        self.kafka.topics("configure", f"{name}:{key}={value}")

    def delete_topic(self, name):
        self.kafka.topics("delete", name)

    def delete_records(self, topic, partition, below):
        self.kafka.topics("truncate", f"{topic}:{partition}:{below}")

    def kcat(self, *arguments, data=None):
        return traffic.kcat(self.brokers, *arguments, data=data)

    def stop_kafka(self):
        self.kafka.stop()

    def kill_kafka(self):
        self.kafka.kill()

    def start_kafka(self):
        self.kafka.start()

    # PostgreSQL

    @property
    def pg_dsn(self):
        return self.postgres.dsn(self.database)

    def new_database(self, name=None):
        """Creates an empty database. Returns its DSN."""
        return self.postgres.dsn(self.postgres.new_database(name))

    def psql(self, sql, dsn=None):
        return self.postgres.psql(sql, dsn or self.database)

    def stop_postgres(self):
        self.postgres.stop()

    def crash_postgres(self):
        self.postgres.crash()

    def start_postgres(self):
        self.postgres.start()

    def restart_postgres(self):
        self.postgres.restart()

    # Redis

    @property
    def redis_url(self):
        return self.redis.url()

    def stop_redis(self):
        self.redis.stop()

    def kill_redis(self):
        self.redis.kill()

    def start_redis(self):
        self.redis.start()

    def flush_redis(self):
        self.redis.command("FLUSHALL")


_shared = None


def close_shared():
    """Ends it before the process does."""
    global _shared
    if _shared is not None:
        _shared.close()
        _shared = None


def shared():
    """The stack that all tests of this process use: started at the first call, gone when the process ends."""
    global _shared
    if _shared is None:
        fresh = Stack(kafka=os.environ.get("KAFKA") or "apache")
        atexit.register(fresh.close)
        fresh.__enter__()
        _shared = fresh
    return _shared


__all__ = ["ROOT", "Stack", "StackError", "build_folder", "close_shared", "data_folder", "shared"]
