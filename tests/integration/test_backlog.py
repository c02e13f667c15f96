"""A backlog is read from all partitions side by side: no partition's publishers wait until those of others are done."""

import unittest

from stack import Scene, shared
from stack.events import BASE_RULES

PARTITIONS = 6
RECORDS = 90_000  # more than the consumer's queue holds, from each partition


class BacklogTest(unittest.TestCase):
    def read_side_by_side(self, **producer):
        scene = Scene(shared(), partitions=PARTITIONS)
        scene.apply_rules(BASE_RULES)
        scene.command("produce", "--generate", str(RECORDS), "--delivered-only",
            options={f"kafka.producer.{name}": value for name, value in producer.items()}, check=0)
        with scene.worker(**{"kafka.ahead_bytes": "1m"}) as worker:
            worker.wait_until(lambda m: m.value("records_settled_total", outcome="credited") == RECORDS, 60,
                "all credited")
            scene.journal.adopt(scene.topic, scene.read())
            scene.check(worker)
        # How much of the whole was written when each partition's last record was.
        shares = scene.psql(f"""
            SELECT first_partition,
                   (SELECT count(*) FROM orders WHERE updated_at <= max(o.updated_at))::float8 / {RECORDS}
            FROM orders o GROUP BY 1 ORDER BY 1""")
        self.assertEqual([int(partition) for partition, _ in shares], list(range(PARTITIONS)))
        for partition, share in shares:
            self.assertGreater(float(share), 0.6, f"partition {partition} was read before others: {shares}")

    def test_backlog__partitions_are_read_side_by_side(self):
        self.read_side_by_side(**{"compression.codec": "lz4"})

    def test_backlog__of_batches_that_fill_an_answer_too(self):
        """Of 1 MB, and 200 KB as they come: more than is asked for of a partition beside others."""
        self.read_side_by_side(**{"compression.codec": "lz4", "batch.size": "1000000", "linger.ms": "1000"})


if __name__ == "__main__":
    unittest.main()
