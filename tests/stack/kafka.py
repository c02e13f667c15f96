"""The brokers a stack can have: one node of Apache Kafka, three of them, or librdkafka's mock cluster."""

import base64
import concurrent.futures
import json
import os
import shutil
import signal
import subprocess
import tempfile
import uuid

from .process import Process, Server, StackError, accepts, free_port

VERSION = "4.1.1"
POM = os.path.join(os.path.dirname(__file__), "kafka-pom.xml")

# In full, so that Maven need not look up what the short name stands for.
COPY_JARS = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

# A node that is broker and controller. Groups form at once (the broker's own default waits 3 s for
# members), nothing expires, nothing is made by a typing error. A killed broker's successor is let in when the
# session of the dead one has run out. What of three is not where it was before a broker died goes back there soon
# after that broker's return.
PROPERTIES = """
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1500
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor={replicas}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions={offset_partitions}
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
leader.imbalance.check.interval.seconds=1
log.retention.ms=-1
log.retention.bytes=-1
"""
OFFSET_PARTITIONS = 5

# What clients are told to ask: the address that brokers listen on, by another name than the one that they advertise, as
# a DNS alias or a load balancer has it. It needs no resolver.
ASKED_BY = "127.1"

# Of one node: everybody may do what no ACL speaks of. Three would not let each other vote.
AUTHORIZER = """
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
"""


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "delivery-worker", f"kafka-{VERSION}")


def fetch_jars():
    """Returns the folder of the broker's jars, fetched once a machine. Safe when several do it at a time."""
    folder = cache_folder()
    if os.path.isdir(folder):
        return folder
    for tool in ("java", "mvn"):
        if not shutil.which(tool):
            raise StackError(f"{tool} not found: Apache Kafka needs it (tests/deps.sh kafka)")
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    # Everyone fetches into a folder of their own; the first rename wins, so a half-filled cache is never seen.
    fresh = tempfile.mkdtemp(prefix="kafka-", dir=os.path.dirname(folder))
    try:
        done = subprocess.run(
            ["mvn", "-q", "-B", "-f", POM, f"-Dkafka.version={VERSION}", COPY_JARS,
                f"-DoutputDirectory={fresh}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise StackError(f"mvn could not fetch Apache Kafka {VERSION}:\n{done.stdout}")
        try:
            os.rename(fresh, folder)
        except OSError:
            if not os.path.isdir(folder):
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def new_cluster_id():
    # An id that begins with a dash would be taken for an option.
    return "d" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]


TOOL_MEMORY = ["-Xmx128m"]


class _Tools:
    """What is asked of a broker by way of tools; subclasses have `brokers`, `topics_tool` and `jars`."""

    def _java(self, memory, main, *arguments):
        return ["java", *memory, "-XX:+UseSerialGC", "-XX:-UsePerfData",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{self.jars}/*", main, *arguments]

    def topics(self, verb, *targets):
        """The verbs of tests/tools/kafka_topics.c."""
        done = subprocess.run([self.topics_tool, self.brokers, verb, *targets], capture_output=True, text=True)
        if done.returncode:
            raise StackError(done.stderr.strip())

    def group_tool(self, *arguments):
        """The broker's own consumer group command, 1.5 s a call. Returns what it prints."""
        done = subprocess.run(
            self._java(TOOL_MEMORY, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
                "--bootstrap-server", self.brokers, *arguments),
            capture_output=True, text=True)
        if done.returncode or "Error:" in done.stdout:
            raise StackError(f"consumer group command: {done.stderr or done.stdout}")
        return done.stdout


    def set_quota(self, client, change):
        """`change`: as the broker's own configuration command has it, "--add-config", "request_percentage=1"."""
        done = subprocess.run(
            self._java(TOOL_MEMORY, "kafka.admin.ConfigCommand", "--bootstrap-server", self.brokers, "--alter",
                *change, "--entity-type", "clients", "--entity-name", client),
            capture_output=True, text=True)
        if done.returncode:
            raise StackError(f"configuration command: {done.stderr or done.stdout}")


class ApacheKafka(_Tools, Server):
    LABEL = f"Apache Kafka {VERSION}, one node"

    def __init__(self, folder, keeper, tools, node=1, voters=None, cluster=None):
        """`voters`: {node: controller's port} of all nodes of a cluster, and `cluster` its id."""
        super().__init__("kafka", folder, keeper)
        self.topics_tool = os.path.join(tools, "kafka_topics")
        self.data = os.path.join(folder, "kafka")
        self.properties = os.path.join(folder, "server.properties")
        self.jars = None
        self.memory = ["-Xmx512m"]  # of the broker, as JVM flags; from its next start on
        self.node, self.voters, self.cluster = node, voters, cluster or new_cluster_id()

    def init(self):
        self.jars = fetch_jars()

    def _configure(self):
        """Ports may change from start to start, of one node alone, the storage and its cluster id stay."""
        voters = self.voters or {self.node: free_port()}
        with open(self.properties, "w", encoding="ascii") as out:
            out.write(PROPERTIES.format(port=self.port, controller=voters[self.node], data=self.data, node=self.node,
                voters=",".join(f"{node}@127.0.0.1:{port}" for node, port in voters.items()), replicas=len(voters),
                offset_partitions=OFFSET_PARTITIONS))
            if len(voters) == 1:
                out.write(AUTHORIZER)
        if os.path.isdir(self.data):
            return
        done = subprocess.run(
            self._java(TOOL_MEMORY, "kafka.tools.StorageTool", "format", "-t", self.cluster, "-c", self.properties),
            stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise StackError(f"kafka could not format its storage: {done.stderr or done.stdout}")

    def launch(self):
        self._configure()
        self.process.launch(self._java(self.memory, "kafka.Kafka", self.properties))

    def ready(self):
        if not accepts(self.port):
            return False
        listed = subprocess.run(["kcat", "-L", "-b", self.brokers, "-m", "2"], capture_output=True, text=True)
        return f"broker {self.node} at 127.0.0.1:{self.port}" in listed.stdout

    @property
    def brokers(self):
        return f"{ASKED_BY}:{self.port}"

    def stop(self):
        self.process.stop(signal.SIGTERM, 60)


class KafkaCluster(_Tools):
    """Three nodes of Apache Kafka; everything is replicated to all of them."""

    LABEL = f"Apache Kafka {VERSION}, three nodes"

    def __init__(self, folder, keeper, tools):
        self.topics_tool = os.path.join(tools, "kafka_topics")
        self.jars = None
        voters = {node: free_port() for node in (1, 2, 3)}
        cluster = new_cluster_id()
        self.nodes = {}
        for node in voters:
            own = os.path.join(folder, f"node-{node}")
            os.mkdir(own)
            self.nodes[node] = ApacheKafka(own, keeper, tools, node, voters, cluster)

    def init(self):
        self.jars = fetch_jars()
        for node in self.nodes.values():
            node.init()

    def _each(self, order):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for obeyed in [pool.submit(order, node) for node in self.nodes.values()]:
                obeyed.result()

    def start(self):
        """Starts those that do not run."""
        self._each(lambda node: node.process.alive() or node.start())

    def stop(self):
        self._each(ApacheKafka.stop)

    def kill(self):
        self._each(ApacheKafka.kill)

    def end(self):
        for node in self.nodes.values():
            node.end()

    @property
    def brokers(self):
        return ",".join(node.brokers for node in self.nodes.values())

    def leaders(self, topic):
        """{partition: (its leader's node, nodes in sync)}; no leader is -1."""
        alive = ",".join(node.brokers for node in self.nodes.values() if node.process.alive())
        listed = subprocess.run(["kcat", "-L", "-J", "-b", alive, "-t", topic], capture_output=True, text=True)
        if listed.returncode:
            raise StackError(f"kcat: {listed.stderr.strip()}")
        partitions = json.loads(listed.stdout)["topics"][0]["partitions"]
        return {row["partition"]: (row["leader"], sorted(each["id"] for each in row["isrs"])) for row in partitions}

    def coordinator(self, group):
        """The node that coordinates a group: the leader of the partition that the group's name falls on; -1: none."""
        number = 0
        for unit in group.encode():
            number = (31 * number + unit) & 0xffffffff
        number = abs(number - (1 << 32) if number >> 31 else number)
        return self.leaders("__consumer_offsets")[number % OFFSET_PARTITIONS][0]


class MockKafka:
    """tests/tools/mock_broker.c. No admin API and 5 MiB a partition, but there at once and without Java."""

    LABEL = "mock cluster of librdkafka"

    def __init__(self, folder, keeper, tools):
        self.tool = os.path.join(tools, "mock_broker")
        self.process = Process("kafka", os.path.join(folder, "kafka.log"), keeper)
        self.brokers = None

    def init(self):
        if not os.path.exists(self.tool):
            raise StackError(f"{self.tool} is not built (make tests)")

    def start(self):
        if self.brokers:
            self.order("up 1")
            return
        self.process.launch([self.tool], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.brokers = self._answer()

    def _answer(self):
        line = self.process.child.stdout.readline().decode().strip()
        if not line or line.startswith("error"):
            raise StackError(f"mock_broker: {line or self.process.tail()}")
        return line

    def order(self, line):
        self.process.child.stdin.write(line.encode() + b"\n")
        self.process.child.stdin.flush()
        self._answer()

    def topics(self, verb, *targets):
        if verb != "create":
            raise StackError(f"the mock cluster cannot {verb} topics")
        for target in targets:
            name, partitions = target.split(":")[:2]
            self.order(f"topic {name} {partitions}")

    def stop(self):
        """Takes it off the network only: the process holds all that it keeps."""
        self.order("down 1")

    def kill(self):
        self.process.kill()

    def end(self):
        self.process.end()

    def freeze(self):
        self.process.freeze()

    def thaw(self):
        self.process.thaw()
