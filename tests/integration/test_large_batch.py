"""
A batch that inflates to a hundred times its size and more: what Kafka's own consumer reads is read, and what only a
limit of the client refuses is not called damage.
"""

import os
import unittest

from stack import Scene, shared
from stack.events import BASE_RULES, delivered
from stack.traffic import encode, kcat

RECORDS = 1500
PADDING_BYTES = 60_000
INFLATED_MB = RECORDS * PADDING_BYTES / 1e6
# Back-pressure lets a batch be fetched anew before the first copy is gone. Beside these two the worker takes 70 MB:
# its own, and blocks for records of this size.
PEAK_MB = 2 * INFLATED_MB + 110


class LargeBatchTest(unittest.TestCase):
    def produce(self, scene, codec):
        """One batch, as the log has it: the broker keeps what it was sent. Returns its size there."""
        path = os.path.join(scene.stack.folder, f"{scene.name}.ndjson")
        with open(path, "wb") as out:
            for i in range(RECORDS):
                out.write(encode({**delivered(f"o{i}", 4321), "padding": "x" * PADDING_BYTES}) + b"\n")
        limits = {"compression.codec": codec, "linger.ms": "10000", "batch.size": "2000000000",
            "message.max.bytes": "1000000000", "queue.buffering.max.kbytes": "1000000", "acks": "all"}
        kcat(scene.stack.brokers, "-P", "-t", scene.topic, "-p", "0",
            *(word for name, value in limits.items() for word in ("-X", f"{name}={value}")), "-l", path)
        os.remove(path)
        log = os.path.join(scene.stack.kafka.data, f"{scene.topic}-0", "0" * 20 + ".log")
        return os.path.getsize(log)

    def wait_read(self, worker):
        worker.wait_until(lambda m: m.value("records_settled_total", outcome="credited") == RECORDS, 60, "all credited")
        self.assertLess(worker.memory_peak_bytes() / 1e6, PEAK_MB)

    def scene(self):
        scene = Scene(shared(), partitions=1)
        scene.apply_rules(BASE_RULES)
        return scene

    def test_large_batch__zstd_without_its_size_is_read(self):
        scene = self.scene()
        self.assertLess(self.produce(scene, "zstd"), 1_000_000)
        with scene.worker() as worker:
            self.wait_read(worker)
            scene.journal.adopt(scene.topic, scene.read())
            scene.check(worker)

    def test_large_batch__gzip_takes_what_it_inflates_to(self):
        scene = self.scene()
        self.assertLess(self.produce(scene, "gzip"), 1_000_000)
        with scene.worker() as worker:
            self.wait_read(worker)

    def test_large_batch__beyond_the_clients_limit_the_option_is_named(self):
        scene = self.scene()
        self.produce(scene, "zstd")
        with scene.worker(**{"kafka.consumer.receive.message.max.bytes": "3000000"}) as worker:
            worker.wait_logged("kafka.receive.message.max.bytes", 30)
            line = next(line for line in worker.log(10000).splitlines() if "receive.message.max.bytes" in line)
            self.assertIn("3000000", line)
            self.assertIn("offset=0", line)
            self.assertNotIn("damage", line)
            self.assertEqual(scene.read(scene.dlq), [])
        with scene.worker() as worker:
            self.wait_read(worker)


if __name__ == "__main__":
    unittest.main()
