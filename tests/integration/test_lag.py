"""
Lag in offsets and in seconds, per partition, at every scrape: what Kafka's own tool says, and the age of the first
uncommitted record, which the journal knows. Under load, while the database hangs, and while nobody reads.
Lost offsets: each partition's are named, and told apart from the lag.
"""

import json
import re
import time
import unittest

from stack import Scene, shared
from stack.events import BASE_RULES, delivered
from stack.records import Record
from stack.traffic import encode

PARTITIONS = 4
RECORDS = 4000
OLDEST_S = 3600  # ago; each record is STEP_MS younger than the one before it
STEP_MS = 300
CLOCK_S = 0.002  # Kafka's times are whole milliseconds


class LagTest(unittest.TestCase):
    def new_scene(self, partitions, **options):
        self.scene = Scene(shared(), partitions=partitions, deferred_partitions=1, **options)
        self.scene.apply_rules(BASE_RULES)
        return self.scene

    def produce(self):
        first_ms = int(time.time() - OLDEST_S) * 1000
        values = [encode(delivered(f"o{i}")) for i in range(RECORDS)]
        self.scene.send([Record(value, partition=i % PARTITIONS, timestamp_ms=first_ms + STEP_MS * (i // PARTITIONS))
            for i, value in enumerate(values)])
        self.times = {(entry.partition, entry.offset): entry.timestamp_ms / 1000
            for entry in self.scene.journal.acknowledged}
        self.ends = {p: 1 + max(offset for partition, offset in self.times if partition == p)
            for p in range(PARTITIONS)}

    def figure(self, metrics, name, partition):
        """None where it is not shown."""
        found = metrics.series(name, topic=self.scene.topic, partition=str(partition))
        return found[0][1] if found else None

    def scrape(self, worker):
        """One scrape, which must be right. Returns (metrics, partitions whose first uncommitted record had its age)."""
        before = time.time()
        metrics = worker.metrics()
        after = time.time()
        aged = 0
        for partition in worker_partitions(metrics, self.scene.topic):
            lag, seconds, committed = (self.figure(metrics, f"consumer_{name}", partition)
                for name in ("lag", "lag_seconds", "committed_offset"))
            if not lag:
                continue  # not known before the first answer, or none
            first = self.times[partition, int(committed or 0)]
            what = f"partition {partition}, committed {committed}, lag {lag}: {seconds} s"
            self.assertEqual(lag, self.ends[partition] - (committed or 0), what)
            self.assertIsNotNone(seconds, what)
            self.assertTrue(0 <= seconds <= after - first + CLOCK_S, what)
            exact = seconds >= before - first - CLOCK_S
            aged += exact
            self.unread += not exact
        return metrics, aged

    def tool_says(self):
        """{partition: [committed, end, lag]} by Kafka's own tool."""
        text = self.scene.stack.kafka.group_tool("--describe", "--group", self.scene.group)
        rows = re.findall(rf"^\S+\s+{re.escape(self.scene.topic)}\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s", text, re.M)
        return {int(partition): list(map(int, figures)) for partition, *figures in rows}

    def worker_says(self, metrics):
        return {partition: [self.figure(metrics, f"consumer_{name}", partition)
            for name in ("committed_offset", "end_offset", "lag")] for partition in
            worker_partitions(metrics, self.scene.topic)}

    def test_lag__is_right_at_every_scrape(self):
        scene = self.new_scene(PARTITIONS, **{"inflight.max": 400, "batch.max": 50})
        postgres = shared().postgres
        scene.slow_down(0.2)
        self.produce()
        self.addCleanup(postgres.thaw)
        right = settled = self.unread = 0
        with scene.worker() as worker:
            while settled < RECORDS / PARTITIONS - 200:  # something is left in each
                metrics, aged = self.scrape(worker)
                settled = metrics.value("records_settled_total")
                right += aged
            self.assertGreater(right, 10, "scrapes under load")
            # What nobody has read, while others are, may be older than it is known to be, until it is looked at.
            self.assertLess(self.unread, right / 2, "scrapes under load without the age of what was read")

            postgres.freeze()
            # A commit of what was recorded before may be under way still.
            worker.wait_until(lambda m: m.value("consumer_partition_paused", topic=scene.topic) == PARTITIONS and
                self.worker_says(m) == self.tool_says(), 30, "what Kafka's tool says")
            hung, aged = self.scrape(worker)
            self.assertEqual(aged, PARTITIONS)
            later, aged = self.scrape(worker)
            self.assertEqual(aged, PARTITIONS)
            for partition in range(PARTITIONS):
                self.assertGreater(self.figure(later, "consumer_lag_seconds", partition),
                    self.figure(hung, "consumer_lag_seconds", partition))
            postgres.thaw()
            scene.psql("DROP TRIGGER dawdle ON orders")

            while self.scrape(worker)[0].value("consumer_lag", topic=scene.topic):
                pass
            scene.check(worker)
            metrics = worker.wait_until(lambda m: m.value("consumer_lag") == 0, 10)
            self.assertEqual([self.figure(metrics, "consumer_lag_seconds", p) for p in range(PARTITIONS)],
                [0] * PARTITIONS)

    def test_lag__every_lost_range_is_named(self):
        fleet = 12  # more than the log lets pass in a line each
        scene = self.new_scene(fleet)
        for name in ("done", "lost", "left"):
            scene.send([Record(encode(delivered(f"{name}-{p}-{i}")), partition=p)
                for p in range(fleet) for i in range(4)])
            if name == "done":
                with scene.worker() as worker:
                    scene.wait_settled(worker)
                    self.assertEqual(worker.stop(), 0, worker.log())
        lost = {p: 1 + p % 4 for p in range(fleet)}
        for partition, count in lost.items():
            scene.stack.delete_records(scene.topic, partition, 4 + count)
        with scene.worker() as worker:
            worker.wait_logged(r"level=error msg=\"offsets lost:.* lost="
                + ",".join(f"{p}:4-{4 + count}" for p, count in lost.items()) + r"\n")
            metrics = worker.wait_until(lambda m: m.value("degraded", what="offset_lost") == 1 and
                all(len(m.series(f"consumer_{name}", topic=scene.topic)) == fleet for name in ("lag", "lag_seconds")),
                20, "the fleet's lag")
            self.assertEqual({p: self.figure(metrics, "partition_offsets_lost", p) for p in range(fleet)}, lost)
            self.assertEqual(metrics.value("partition_offsets_lost", topic=scene.deferred), 0)
            self.assertEqual(len(re.findall(rf"topic={scene.topic} assigned=0-{fleet - 1}\n", worker.log(1000))), 1)
            tool = self.tool_says()
            self.assertEqual(tool, {p: [4, 12, 8] for p in range(fleet)})
            self.assertEqual(self.worker_says(metrics), tool)
        rows = json.loads(scene.command("lag", "--json", check=0).stdout)["partitions"]
        self.assertEqual({row["partition"]: ([row["committed"], row["end_offset"], row["lag"]], row["lost"])
            for row in rows if row["topic"] == scene.topic}, {p: (tool[p], lost[p]) for p in range(fleet)})
        table = scene.command("lag", check=0).stdout
        self.assertRegex(table, rf"(?m)^{scene.topic} +5 +6 +4 +12 +8 +2 +\d")
        self.assertRegex(table, rf"(?m)^total +{8 * fleet} +{sum(lost.values())} +\d")


def worker_partitions(metrics, topic):
    return [int(labels["partition"]) for labels, _ in metrics.series("consumer_partition_paused", topic=topic)]


if __name__ == "__main__":
    unittest.main()
