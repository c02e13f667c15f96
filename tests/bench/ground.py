"""What everything is measured on: the servers, topics filled once, ledgers to run into."""

import datetime
import functools
import json
import os
import re
import subprocess

from stack import ROOT, Stack, StackError, build_folder, machine
from stack.traffic import offsets
from stack.worker import binary, environment, run_command

from . import usage, workload

LIMIT_S = 900
WARM_UP = 100_000  # records
PARTITIONS = 6
# Each record of its own request is 25 kB of garbage in the broker. With the heap of the tests that is a pause of 10 ms
# every second for whoever waits for a record, with this one every ten seconds.
BROKER_MEMORY = ["-Xms2g", "-Xmx2g", "-Xmn1536m"]
# A log for the longest section, so that a checkpoint comes when the bench wants one: by time it would come in the
# middle of whatever is measured then.
PG_LOG = "max_wal_size = 64GB\ncheckpoint_timeout = 1h\n"
HUGE_PAGES = "/proc/sys/vm/nr_hugepages"
# What says how durable a commit is, what PostgreSQL's cache is, and how often it writes its tables out.
PG_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "wal_compression", "shared_buffers", "huge_pages",
    "max_wal_size", "checkpoint_timeout", "autovacuum")


def tool(name):
    return os.path.join(build_folder(), "tests", "bench", name)


@functools.cache
def default(option):
    """A number among the worker's options, as it is when nothing is said."""
    sample = run_command("help", "options", "--sample", check=0).stdout
    return int(re.search(rf"^#{re.escape(option)} = (\d+)$", sample, re.M)[1])


def quiet(text):
    print(f"   {text}", flush=True)


def run_tool(name, *arguments, lines=None, one_core=False):
    """One of the C programs. Returns the JSON object that it prints."""
    command = [tool(name), *map(str, arguments)]
    if one_core:  # of those that we may use
        command = ["taskset", "-c", str(min(os.sched_getaffinity(0))), *command]
    with open(lines or os.devnull, "rb") as data:
        done = subprocess.run(command, stdin=data, capture_output=True, text=True)
    if done.returncode:
        raise StackError(f"{name}: exit {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout)


class Ground:
    def __init__(self, seed):
        self.seed = seed
        self.stack = Stack(kafka="apache")
        self.stack.kafka.memory = BROKER_MEMORY
        # A quarter of the memory, as PostgreSQL's manual has it, up to 4 GB; the tests' 256 MB are below any server's.
        self.cache_mb = min(4096, int(machine.memory_gib() * 256))
        self.stack.postgres.settings += f"shared_buffers = {self.cache_mb}MB\n{PG_LOG}"
        self.huge_pages_before = None  # when there are more now
        self.topics = {}  # what a topic was filled with: its name
        self.files = {}
        self.fill_per_s = {}  # by topic

    def __enter__(self):
        try:
            self.reserve_huge_pages()
            self.stack.__enter__()
            self.warm_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            self.stack.close()
        finally:
            if self.huge_pages_before is not None:
                _write_huge_pages(self.huge_pages_before)

    def reserve_huge_pages(self):
        """
        For PostgreSQL's cache, as its manual advises ("Linux Huge Pages"): else what is measured with a large table is
        also how the kernel has happened to lay out 4 GB of small ones. Only who may write the kernel's settings can.
        """
        before, wanted = huge_pages(), int(self.cache_mb / 2 * 1.12)
        if before >= wanted or not os.access(HUGE_PAGES, os.W_OK):
            return
        self.huge_pages_before = before
        _write_huge_pages(wanted)
        if huge_pages() < wanted:  # memory is in pieces: what there is would help nobody
            _write_huge_pages(before)
        quiet(f"huge pages for PostgreSQL's cache: {huge_pages():,} (vm.nr_hugepages), and {before:,} again at the end")

    def warm_up(self):
        """A broker that has just started interprets its code: its first records cost many times what later ones do."""
        topic, _ = self.topic(workload.W1, WARM_UP)
        for _ in range(2):
            run_tool("consume_load", self.stack.brokers, topic, "consume")
        self.forget(workload.W1, WARM_UP)

    # Events

    def new_topic(self, partitions=PARTITIONS):
        name = f"bench-{self.stack.number()}"
        self.stack.create_topics({name: partitions, f"{name}.deferred": 4, f"{name}.dlq": 1})
        return name

    def topic(self, load, count, partitions=PARTITIONS):
        """A topic that holds the workload; filled at the first call. Returns (name, records)."""
        key = (load, 0 if load.file else count, partitions)
        if key not in self.topics:
            name = self.new_topic(partitions)
            self.fill(name, load, count)
            self.topics[key] = name, sum(offsets(self.stack.brokers, name).values())
        return self.topics[key]

    def forget(self, load, count, partitions=PARTITIONS):
        name, _ = self.topics.pop((load, count, partitions))
        self.stack.delete_topic(name)

    def fill(self, name, load, count):
        options = {"kafka.brokers": self.stack.brokers, "kafka.topic": name, "kafka.producer.compression.codec": "lz4"}
        done = run_command("produce", *load.arguments(count, self.seed), options=options, check=0, limit_s=LIMIT_S)
        rate = re.search(r"(\d+)/s$", done.stdout.strip())
        self.fill_per_s[name] = float(rate[1])
        quiet(f"{name}: {done.stdout.strip()}")

    def lines(self, load, count):
        """The same stream as a file of lines. Returns its path."""
        if load.file:
            return load.file
        key = (load, count)
        if key not in self.files:
            path = os.path.join(self.stack.folder, f"events-{self.stack.number()}.ndjson")
            with open(path, "wb") as out:
                done = subprocess.run([binary(), "produce", *load.arguments(count, self.seed), "--stdout"], stdout=out,
                    stderr=subprocess.PIPE, text=True, env=environment({}), cwd=ROOT)
            if done.returncode:
                raise StackError(f"produce: exit {done.returncode}\n{done.stderr}")
            self.files[key] = path
        return self.files[key]

    # Ledgers

    def options(self, topic, group):
        return {"kafka.brokers": self.stack.brokers, "kafka.topic": topic, "kafka.group": group,
            "redis.url": self.stack.redis_url, "redis.prefix": f"{group}:"}

    def new_ledger(self, load):
        """An empty database, migrated, with the workload's rules; the servers' caches and logs as after any other."""
        dsn = self.stack.new_database()
        rules = os.path.join(self.stack.folder, "bench-rules.json")
        with open(rules, "w", encoding="utf-8") as out:
            json.dump(load.rules, out)
        for arguments in (("migrate",), ("rules", "apply", rules)):
            run_command(*arguments, options={"pg.dsn": dsn}, check=0)
        self.settle()
        return dsn

    def warm(self, dsn):
        """Into PostgreSQL's cache, as far as there is room; the indexes last, which every new order needs."""
        self.stack.psql("CREATE EXTENSION pg_prewarm", dsn)
        for kind in "r", "i":
            self.stack.psql(f"SELECT sum(pg_prewarm(oid)) FROM pg_class WHERE relkind = '{kind}' AND relnamespace = "
                "'delivery'::regnamespace", dsn)

    def settle(self):
        """What an earlier run left to do is done, so that a later one does not pay for it."""
        self.stack.flush_redis()
        self.stack.psql("CHECKPOINT")

    def drop(self, dsn):
        name = dsn.rpartition("/")[2]
        self.stack.postgres.psql(f"DROP DATABASE {name} WITH (FORCE)", "postgres")

    def audit(self, dsn):
        done = run_command("audit", options={"pg.dsn": dsn}, limit_s=LIMIT_S)
        if done.returncode:
            raise StackError(f"the ledger does not add up\n{done.stdout}{done.stderr}")

    # What it is

    def servers(self):
        return {"kafka": self.stack.kafka.process, "postgres": self.stack.postgres.process,
            "redis": self.stack.redis.process}

    def meter(self, **more):
        return usage.Meter({**self.servers(), **more})

    def about(self, command):
        settings = {name: self.stack.psql(f"SHOW {name}")[0][0] for name in PG_SETTINGS}
        version = json.loads(run_command("version", "--json").stdout)
        return {
            "command": command,
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
            "seed": self.seed,
            "machine": f"{machine.hardware()}, {huge_pages():,} huge pages reserved, {machine.system()}",
            "worker": ", ".join([f"delivery-worker {version['version']}", *(f"{name} {of['loaded'] or of['built']}"
                for name, of in version["libraries"].items())]),
            "kafka": self.stack.kafka.LABEL,
            "postgresql": "PostgreSQL " + self.stack.psql("SHOW server_version")[0][0],
            "redis": "Redis " + _field(self.stack.redis.command("INFO", "server"), "redis_version"),
            "postgresql_settings": settings,
            "broker_settings": f"one node, replication 1, acks=all of the producers, lz4, {' '.join(BROKER_MEMORY)}",
            "redis_settings": "no persistence",
        }


def _field(text, name):
    found = re.search(rf"^{name}:(\S+)", text or "", re.M)
    return found[1] if found else "?"


def huge_pages():
    """How many the kernel keeps for those who ask for them, which PostgreSQL does."""
    try:
        with open(HUGE_PAGES, encoding="ascii") as setting:
            return int(setting.read())
    except OSError:
        return 0


def _write_huge_pages(count):
    with open(HUGE_PAGES, "w", encoding="ascii") as setting:
        setting.write(f"{count}\n")
