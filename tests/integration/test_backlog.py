"""A backlog is read from all partitions side by side: no partition's publishers wait until those of others are done."""

import unittest

from stack import Scene, shared
from stack.events import BASE_RULES

PARTITIONS = 6
RECORDS = 90_000  # several times what the consumer's queue holds, from each partition


class BacklogTest(unittest.TestCase):
    def test_backlog__partitions_are_read_side_by_side(self):
        scene = Scene(shared(), partitions=PARTITIONS)
        scene.apply_rules(BASE_RULES)
        scene.command("produce", "--generate", str(RECORDS), "--delivered-only",
            options={"kafka.producer.compression.codec": "lz4"}, check=0)
        with scene.worker() as worker:
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


if __name__ == "__main__":
    unittest.main()
