"""
Kafka's own faults: a broker that goes, topics that take no copies, offsets that operators and retention move, records
that were never committed. Nothing is lost, nothing is credited twice, and no offset passes what is not settled
[I1] [I2] [I10].
"""

import json
import os
import re
import struct
import unittest

from fault_case import FaultCase, expected_of, limits
from stack import Record, Session, Stack, StackError, shared, wait_until
from stack.events import BASE_RULES, Expected, delivered, event, ledger_totals
from stack.load import Load, Vitals
from stack.records import Transactions
from stack.traffic import encode, offsets

# Copies that nobody takes are said to be so after a second, not after ten.
SOON = {"kafka.producer.message.timeout.ms": 1000}
# Of a batch: its first offset and its length, which does not count them.
LOG_OVERHEAD = 12


class LeaderTest(FaultCase):
    def test_leader__a_partition_without_one_keeps_no_other_waiting(self):
        """By the mock cluster: a real one takes a leader away with everything else on its broker."""
        with Stack("mock", redis=False, postgres=False) as stack:
            scene = self.scene(stack=stack, partitions=3, **{"redis.url": "",
                "kafka.topic.metadata.refresh.interval.ms": 300})
            events = [delivered(f"o{i}", 100) for i in range(60)]
            scene.produce(events)
            missing = sum(record.partition == 2 for record in scene.read())
            self.assertTrue(0 < missing < 60)
            stack.kafka.order(f"leader {scene.topic} 2 0")
            with scene.worker() as worker:
                self.wait_credits(scene, 60 - missing, limit_s=60)
                self.assertEqual(ledger_totals(scene)[0], 60 - missing)
                stack.kafka.order(f"leader {scene.topic} 2 1")
                self.wait_credits(scene, missing, limit_s=60)
                self.assertEqual(worker.stop(), 0)


class BrokerTest(FaultCase):
    def restart_under_load(self, stop):
        """
        A batch waits in PostgreSQL when the broker goes, and is committed while it is away: its letters and deferrals
        are under way then, and nothing else makes up for them. The broker is back before the group misses the worker,
        however long this machine takes to stop and start it.
        """
        kafka = shared().kafka
        self.addCleanup(lambda: kafka.process.alive() or kafka.start())
        scene = self.scene(limits(per_second=100, burst=5), **{"rate.defer_ms": 300, "inflight.max": 400,
            "kafka.session.timeout.ms": 240000, **SOON})
        before, after = (Load(scene, name, batch=50, pause_s=0.1, poison=10, slow=20) for name in ("before", "after"))
        known = [delivered(f"known-{i}", 100 + i) for i in range(20)]
        with scene.worker() as worker, Session(scene) as session, Vitals(worker) as vitals:
            worker.wait_logged("rules loaded")
            worker.wait_ready()
            with session.locked():
                # Orders and what contradicts them: a batch of nothing but the latter would have nothing to write.
                scene.produce([each for one in known for each in (one, {**one, "customer_id": "somebody-else"})])
                before.send(300)
                worker.wait_until(lambda m: m.value("records_in_flight") >= 400, 20, "a full pipeline")
                stop()
                worker.wait_until(lambda m: m.value("dependency_up", dependency="kafka") == 0, 20, "kafka down")
            for what in ("dead_letters", "deferred"):
                self.wait_degraded(worker, what)
            self.assertGreater(worker.metrics().value("records_in_flight"), len(known))
            wait_until(lambda: worker.get("/readyz")[0] == 503, 10, "/readyz at 503")
            kafka.start()
            with after:
                self.wait_credits(scene, 100)
            self.verdict(scene, worker, expected=expected_of(before, after, known),
                letters=before.poisoned + after.poisoned + len(known), sent_again=True)
            self.assertEqual(worker.metrics().value("rebalances_total", kind="lost"), 0)
        self.assert_alive(vitals, in_flight=400)
        self.assertEqual(vitals.degraded - {"dead_letters", "deferred", "ledger"}, set())

    def test_broker__stopped_and_started_while_copies_are_under_way(self):
        self.restart_under_load(shared().kafka.stop)

    def test_broker__killed_and_started_while_copies_are_under_way(self):
        self.restart_under_load(shared().kafka.kill)

    def test_broker__frozen_while_copies_are_under_way(self):
        # So long that copies are under way at any moment.
        scene = self.scene(limits(per_second=100, burst=5), **{"rate.defer_ms": 500, "batch.max": 50,
            "kafka.producer.linger.ms": 200, **SOON})
        kafka = shared().kafka
        load = Load(scene, poison=10, slow=20)
        self.addCleanup(kafka.thaw)
        with scene.worker() as worker, Vitals(worker) as vitals:
            worker.wait_logged("rules loaded")
            load.send(800)
            worker.wait_until(lambda m: m.value("records_settled_total", outcome="dead_lettered") > 10, 20)
            kafka.freeze()
            worker.wait_until(lambda m: m.value("dependency_up", dependency="kafka") == 0, 20, "kafka down")
            kafka.thaw()
            load.send(300)
            self.verdict(scene, worker, expected=load.expected, letters=load.poisoned, sent_again=True)
        self.assert_alive(vitals)


class CopiesTest(FaultCase):
    """A topic that takes no copy keeps back the offsets of those records, and of nobody else."""

    SLOW = [delivered(f"slow-{i}", partner_id="slow") for i in range(8)]
    GOOD = [delivered(f"good-{i}", 100 + i) for i in range(200)]

    def unauthorised(self, topic_of, what, bad, outcome, letters, expected):
        """`bad` are records of partition 0 that need a copy; the first of them ends what may be committed."""
        kafka = shared().kafka
        scene = self.scene(limits(per_second=1, burst=1), partitions=2, **{"rate.defer_ms": 300})
        topic = topic_of(scene)
        with scene.worker() as worker, Vitals(worker) as vitals:
            worker.wait_logged("rules loaded")
            kafka.topics("deny", topic)
            self.addCleanup(lambda: kafka.topics("allow", topic))
            scene.produce(self.GOOD[:100], partition=0)
            scene.send([Record(encode(one), partition=0) for one in bad])
            scene.produce(self.GOOD[100:150], partition=0)
            self.wait_degraded(worker, what)
            scene.produce(self.GOOD[150:], partition=1)
            wait_until(lambda: ledger_totals(scene)[0] >= len(self.GOOD), 30, worker.log)
            metrics = worker.metrics()
            self.assertEqual(metrics.value("records_settled_total", outcome=outcome), 0)
            self.assertGreaterEqual(metrics.value("records_in_flight"), len(bad) - 1)
            wait_until(lambda: scene.committed().get(1) == 50, 10, "partition 1 to be committed")
            self.assertIn(scene.committed()[0], (100, 101))
            self.assertEqual(worker.get("/readyz")[0], 200)
            kafka.topics("allow", topic)
            if what == "deferred":
                scene.apply_rules({**BASE_RULES, "partners": [{"partner_id": "slow"}]})
            self.verdict(scene, worker, expected=expected, letters=letters)
        self.assert_alive(vitals)
        self.assertEqual(vitals.degraded, {what})

    def test_copies__letters_unauthorised(self):
        self.unauthorised(lambda scene: scene.dlq, "dead_letters", [b"{", b"[]", b"", event("x", "lost")],
            "dead_lettered", 4, Expected(self.GOOD))

    def test_copies__deferrals_unauthorised(self):
        # The first of them is within the limit.
        self.unauthorised(lambda scene: scene.deferred, "deferred", self.SLOW, "deferred", 0,
            Expected(self.GOOD + self.SLOW))

    def test_copies__a_refused_letter_goes_with_its_partition(self):
        scene = self.scene(partitions=1, deferred_partitions=1)
        kafka = shared().kafka
        # The group gives its partitions in the order of its members' names.
        with scene.worker(**{"kafka.client.id": "b"}) as first:
            first.wait_until(lambda m: m.value("assigned_partitions") == 2, 30)
            kafka.topics("deny", scene.dlq)
            self.addCleanup(lambda: kafka.topics("allow", scene.dlq))
            scene.produce([b"{"])
            self.wait_degraded(first, "dead_letters")
            with scene.worker(**{"kafka.client.id": "a"}) as second:
                second.wait_until(lambda m: m.has("consumer_partition_paused", topic=scene.topic), 30, "the partition")
                self.wait_degraded(second, "dead_letters")
                # The other one has nothing to send any more, and so nothing that is refused.
                self.wait_degraded(first, "dead_letters", 0)
                self.assertEqual(second.metrics().value("degraded", what="dead_letters"), 1)
                kafka.topics("allow", scene.dlq)
                self.verdict(scene, first, second, expected=Expected(), letters=1)

    def test_copies__too_large_to_defer_is_taken_now(self):
        scene = self.scene(limits(per_second=1, burst=1), **{"rate.defer_ms": 600000})
        scene.stack.configure_topic(scene.deferred, "max.message.bytes", "600")
        large = [delivered(f"large-{i}", 100 + i, partner_id="slow", padding="x" * 600) for i in range(20)]
        with scene.worker() as worker, Vitals(worker) as vitals:
            worker.wait_logged("rules loaded")
            scene.produce(large)
            self.verdict(scene, worker, expected=Expected(large))
            self.assertEqual(worker.metrics().value("records_settled_total", outcome="deferred"), 0)
        self.assert_alive(vitals)
        self.assertEqual(vitals.degraded, set())
        self.assertEqual(scene.read(scene.deferred), [])

    def test_copies__letter_too_large_even_without_its_value(self):
        scene = self.scene(partitions=2)
        dlq = f"{scene.name}-small"
        scene.stack.create_topic(dlq, 1, {"max.message.bytes": 2000})
        headers = [("large", b"x" * 4000)]
        scene.send([Record(b"{", b"k", headers, partition=0)] + [Record(encode(one), partition=i % 2)
            for i, one in enumerate(self.GOOD)])
        with scene.worker(**{"kafka.dlq_topic": dlq}) as worker, Vitals(worker) as vitals:
            self.wait_degraded(worker, "dead_letters")
            wait_until(lambda: ledger_totals(scene)[0] == len(self.GOOD), 30, worker.log)
            wait_until(lambda: scene.committed().get(1) == 100, 10, "partition 1 to be committed")
            self.assertEqual(scene.committed().get(0, 0), 0)
            self.assertEqual(worker.metrics().value("records_in_flight"), 1)
            scene.stack.configure_topic(dlq, "max.message.bytes", "100000")
            scene.check(worker, dlq=dlq)
            self.assert_well(scene, worker)
            [letter] = self.letters(scene, dlq).values()
            self.assertEqual(letter.headers[:1], headers)
            self.assertEqual(letter.header("dw_value_bytes"), "1")
        self.assert_alive(vitals)
        self.assertEqual(ledger_totals(scene), Expected(self.GOOD).totals())


class ConflictsTest(FaultCase):
    FIELDS = ("customer_id", "partner_id", "currency")

    def claims(self, i, who, partition):
        """An event that fixes one of the three for order i, as `who` has it; no two are equal."""
        field = self.FIELDS[i % 3]
        value = {"a": "BRL", "b": "USD"}[who] if field == "currency" else who
        return {**delivered(f"o-{i}", 100 + i, "c", "p"), field: value, "reason": f"{who} of {partition}"}

    def assert_conflicts(self, scene, count):
        """Exactly what differs from the ledger is in the dead letters."""
        rows = scene.psql("SELECT order_id, customer_id, partner_id, currency, points, order_credit_minor "
            "FROM order_state")
        self.assertEqual(len(rows), count)
        fixed = {}
        for order, *three, points, credit in rows:
            fixed[order] = dict(zip(self.FIELDS, three))
            amount = 100 + int(order[2:])
            self.assertEqual((int(points), int(credit)), (amount // 100, amount), order)

        def refused(record):
            if record.value == b"{":
                return True
            one = json.loads(record.value)
            return any(one[field] != fixed[one["order_id"]][field] for field in self.FIELDS)

        wanted = {(record.partition, record.offset) for record in scene.read() if refused(record)}
        self.assertEqual(set(self.letters(scene)), wanted)

    def test_conflicts__no_letter_before_the_commit(self):
        """A batch of orders and what contradicts them is rolled back again and again: nothing is contradicted yet."""
        scene = self.scene(partitions=1, workers=1)
        count = 30
        scene.psql("""
            CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF NEW.order_id = 'first' THEN
                    PERFORM pg_advisory_xact_lock_shared(1);
                ELSIF NOT pg_try_advisory_xact_lock_shared(2) THEN
                    RAISE EXCEPTION 'not now' USING ERRCODE = '40001';
                END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER hold BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION hold()""")
        with Session(scene) as session, scene.worker() as worker, Vitals(worker) as vitals:
            session.run("SELECT pg_advisory_lock(1), pg_advisory_lock(2)")
            scene.produce([delivered("first")])
            worker.wait_until(lambda m: m.value("records_in_flight") == 1, 20)
            # While that one is written they come together, and are the next batch.
            scene.produce([self.claims(i, who, 0) for i in range(count) for who in "ab"] + [b"{"])
            worker.wait_until(lambda m: m.value("records_in_flight") == 1 + 2 * count, 20)
            session.run("SELECT pg_advisory_unlock(1)")
            worker.wait_until(lambda m: m.value("pg_transactions_total", result="retried") > 4, 30, "rollbacks")
            self.assertEqual(ledger_totals(scene)[0], 1)
            self.assertEqual([letter.value for letter in scene.read(scene.dlq)], [b"{"])
            session.run("SELECT pg_advisory_unlock(2)")
            scene.check(worker)
            self.assert_well(scene, worker)
            self.assertEqual(len(self.letters(scene)), count + 1)
        self.assert_alive(vitals)

    def test_conflicts__across_partitions_and_workers_while_batches_are_rolled_back(self):
        scene = self.scene(partitions=2, deferred_partitions=2, **{"batch.max": 40, "pg.statement_timeout_ms": 300})
        count = 300
        with scene.worker() as first, scene.worker() as second:
            workers = (first, second)
            for worker in workers:
                worker.wait_until(lambda m: 0 < len(m.series("consumer_partition_paused", topic=scene.topic)) < 2, 30)
            with Vitals(first) as vitals, Vitals(second) as others, Session(scene) as session:
                for part in range(0, count, 50):
                    before = [worker.metrics().value("pg_transactions_total", result="retried") for worker in workers]
                    if part % 100:
                        session.lock()
                    # Who is first decides, and that may change from one try to the next.
                    scene.produce([self.claims(i, who, 0) for i in range(part, part + 50) for who in "ab"],
                        partition=0)
                    scene.produce([self.claims(i, who, 1) for i in range(part, part + 50) for who in "ba"],
                        partition=1)
                    if part % 100:
                        wait_until(lambda: all(worker.metrics().value("pg_transactions_total", result="retried") > was
                            for worker, was in zip(workers, before)), 20, "rollbacks")
                        session.unlock()
                    else:
                        session.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                            "WHERE usename = 'delivery' AND datname = current_database()")
                scene.check(*workers)
            for each in (vitals, others):
                self.assert_alive(each)
                self.assertEqual(each.degraded - {"ledger"}, set())
            self.assert_well(scene, *workers)
        self.assert_conflicts(scene, count)


class OffsetsTest(FaultCase):
    def reset(self, scene, *to):
        scene.stack.kafka.group_tool("--group", scene.group, "--topic", scene.topic, "--reset-offsets", *to,
            "--execute")

    def test_offsets__reset_forwards_and_back_again_while_events_flow(self):
        scene = self.scene(partitions=2, **{"batch.max": 50})
        load, later = Load(scene, poison=5), Load(scene, "later", poison=5)
        with load:
            with scene.worker() as worker:
                self.wait_credits(scene, 200)
                self.assertEqual(worker.stop(), 0, worker.log())
            load.send(500)
            ends = offsets(scene.stack.brokers, scene.topic)
            self.reset(scene, "--to-latest")
            reset = scene.committed()
            self.assertTrue(all(reset[p] >= end for p, end in ends.items()), reset)
            known = ledger_totals(scene)[0]
            with scene.worker() as worker:
                self.wait_credits(scene, 200)
                self.assertEqual(worker.stop(), 0, worker.log())
        later.send(200)
        skipped = expected_of(load).totals()[0] - ledger_totals(scene)[0]
        self.assertGreater(skipped, 400)
        self.assertGreater(ledger_totals(scene)[0], known)
        posted = scene.psql("SELECT order_id, kind, seq, amount, posted_at FROM postings ORDER BY 1, 2, 3")
        self.reset(scene, "--to-earliest")
        with scene.worker() as worker, Vitals(worker) as vitals:
            self.verdict(scene, worker, expected=expected_of(load, later), letters=load.poisoned + later.poisoned)
        self.assert_alive(vitals)
        after = scene.psql("SELECT order_id, kind, seq, amount, posted_at FROM postings ORDER BY 1, 2, 3")
        self.assertEqual(set(posted) - set(after), set())

    def test_offsets__retention_passes_a_worker_that_reads(self):
        scene = self.scene(partitions=2)
        kept, lost, good, after = ([delivered(f"{name}-{i}", 100 + i) for i in range(count)]
            for name, count in (("kept", 60), ("lost", 40), ("good", 60), ("after", 10)))
        with scene.worker() as worker:
            scene.produce(kept, partition=0)
            scene.produce(good[:30], partition=1)
            scene.wait_settled(worker)
            wait_until(lambda: scene.committed() == {0: 60, 1: 30}, 10, "the commits")
            # It asks for its position when it wakes, long before the group misses it. What it had asked for when it was
            # frozen is answered by the first of these, which are nothing new: so the position is one of two.
            worker.freeze()
            scene.produce(kept, partition=0)
            scene.produce(lost, partition=0)
            scene.produce(good[30:] + after, partition=1)
            scene.stack.delete_records(scene.topic, 0, 160)
            worker.thaw()
            with Vitals(worker) as vitals:
                found = worker.wait_logged(
                    rf"offsets lost.*\btopic={re.escape(scene.topic)} partition=0 from=(\d+) to=160\b")
                first = int(found[1])
                self.assertTrue(60 <= first <= 120)
                self.wait_degraded(worker, "offset_lost")
                wait_until(lambda: scene.committed().get(1) == 70, 20, worker.log)
                self.assertEqual(scene.progress(scene.topic)[0], first)
                self.assertEqual(ledger_totals(scene), Expected(kept + good + after).totals())
            self.assert_alive(vitals)
            self.assertEqual(worker.stop(), 0, worker.log())
        last = [delivered(f"last-{i}", 100 + i) for i in range(10)]
        scene.produce(last, partition=0)
        expected = Expected(kept + good + after + last)
        with scene.worker("--accept-loss", f"{scene.topic}:0:{first}-160") as worker:
            self.verdict(scene, worker, expected=expected, accepted_loss=[(scene.topic, 0, first, 160)])
            self.assertEqual(worker.stop(), 0, worker.log())
        with scene.worker() as worker:
            self.verdict(scene, worker, expected=expected, accepted_loss=[(scene.topic, 0, first, 160)])


class TransactionsTest(FaultCase):
    def records(self, name, count):
        return [Record(encode(one), one["order_id"].encode(), partition=0) for one in self.orders(name, count)]

    @staticmethod
    def orders(name, count):
        return [delivered(f"{name}-{i}", 100 + i) for i in range(count)]

    def test_transactions__what_was_aborted_is_never_credited(self):
        scene = self.scene(partitions=1)
        brokers = scene.stack.brokers
        with Transactions(brokers, scene.topic, scene.name, scene.journal) as producer, scene.worker() as worker:
            with Vitals(worker) as vitals:
                producer.send(self.records("aborted-first", 40) + [Record(b"{", partition=0)])
                producer.abort()
                producer.send(self.records("good", 40))
                producer.commit()
                # A gap of a hundred offsets, as compaction leaves them.
                producer.send(self.records("aborted", 100) + [Record(b"{", partition=0)])
                producer.abort()
                scene.produce(self.orders("plain", 40), partition=0)
                expected = Expected(self.orders("good", 40) + self.orders("plain", 40))
                self.verdict(scene, worker, expected=expected)

                # Open: what is behind its start can't be read yet, however it will end. Here the log ends for readers.
                producer.send(self.records("good-late", 20))
                scene.produce(self.orders("behind", 20), partition=0)
                stable = offsets(brokers, scene.topic)[0]
                self.assertEqual(producer.reports[0][2], stable)
                scene.wait_settled(worker)
                self.assertEqual(scene.committed()[0], stable)
                self.assertEqual(ledger_totals(scene), expected.totals())
                producer.commit()
                expected.add(self.orders("good-late", 20) + self.orders("behind", 20))
                self.verdict(scene, worker, expected=expected)

                # Nothing but what nobody may read, up to the end.
                producer.send(self.records("aborted-last", 60))
                producer.abort()
                end = offsets(brokers, scene.topic)[0]
                self.verdict(scene, worker, expected=expected)
                self.assertEqual(scene.committed()[0], end)
                metrics = worker.metrics()
            self.assert_alive(vitals)
            self.assertEqual(vitals.degraded, set())
            self.assertEqual(metrics.value("records_consumed_total"), 120)
            self.assertEqual(worker.stop(), 0, worker.log())
        # A start amid a gap.
        scene.stack.kafka.group_tool("--group", scene.group, "--topic", scene.topic, "--reset-offsets", "--to-offset",
            "20", "--execute")
        with scene.worker() as worker:
            worker.wait_logged("an operator's reset is obeyed")
            self.verdict(scene, worker, expected=expected)
            self.assertEqual(worker.stop(), 0, worker.log())


class DamageTest(FaultCase):
    """A batch that the broker's disk has damaged is no gap: nobody passes it, and nobody believes it."""

    @staticmethod
    def path(scene):
        """Partition 0's file."""
        return os.path.join(scene.stack.kafka.data, f"{scene.topic}-0", "0" * 20 + ".log")

    def replace(self, scene, old, new):
        """While the broker is away."""
        path = self.path(scene)
        with open(path, "r+b") as log:
            content = log.read()
            if content.count(old) != 1:
                raise StackError(f"{content.count(old)} times in {path}: {old}")
            log.seek(content.index(old))
            log.write(new)

    def restart_with(self, scene, old, new):
        kafka = scene.stack.kafka
        kafka.stop()
        try:
            self.replace(scene, old, new)
        finally:
            kafka.start()

    def assert_looks_again_and_again(self, worker):
        """And says of the broker that it is there, from which its lag wants that record's time, too."""
        worker.wait_ready()
        refused = worker.metrics().value("kafka_unreadable_total")

        # For longer than a question without an answer takes.
        def refused_again():
            self.assertEqual(worker.get("/readyz")[0], 200, worker.log())
            metrics = worker.metrics()
            self.assertEqual(metrics.value("dependency_up", dependency="kafka"), 1, worker.log())
            return metrics.value("kafka_unreadable_total") > refused + 3
        wait_until(refused_again, 30, "to read again")

    def assert_commands_say_so(self, scene, order_id):
        wanted = f"{scene.topic}[0]: the log can't be read at offset 20"
        code, text = scene.audit()
        self.assertEqual((code, wanted in text), (1, True), text)
        done = scene.command("explain", order_id, "--from-kafka", check=1)
        self.assertIn(wanted, done.stderr)
        rows = json.loads(scene.command("lag", "--json", check=0).stdout)["partitions"]
        self.assertEqual({row["partition"]: (row["lag"], row["lag_seconds"]) for row in rows
            if row["topic"] == scene.topic}, {0: (40, None), 1: (0, 0)})

    @staticmethod
    def produce_batches(scene):
        """Three of twenty records in partition 0, one in partition 1. Returns their events."""
        batches = [[delivered(f"{name}-{i}", 4321) for i in range(20)]
            for name in ("before", "damaged", "behind", "beside")]
        for batch in batches:
            scene.produce(batch, partition=int(batch is batches[-1]))
        return batches

    def test_damage__a_batch_with_a_wrong_checksum_is_not_passed(self):
        scene = self.scene(partitions=2)
        before, damaged, behind, beside = self.produce_batches(scene)
        good, bad = (b'"damaged-7","status":"delivered","timestamp":"%s' % stamp for stamp in (b"2026", b"2025"))
        self.restart_with(scene, good, bad)
        with scene.worker() as worker, Vitals(worker) as vitals:
            worker.wait_logged(r"the log can't be read.* partition=0 offset=20\b", 30)
            self.wait_degraded(worker, "unreadable")
            wait_until(lambda: scene.committed() == {0: 20, 1: 20}, 20, worker.log)
            self.assert_looks_again_and_again(worker)
            self.assertEqual(ledger_totals(scene), Expected(before + beside).totals())
            self.assertEqual(scene.read(scene.dlq), [])
            self.assertEqual(scene.committed(), {0: 20, 1: 20})
            worker.wait_until(lambda m: m.value("consumer_lag", topic=scene.topic, partition="0") == 40, 20, "the lag")
            self.assert_commands_say_so(scene, before[3]["order_id"])
            self.restart_with(scene, bad, good)
            self.verdict(scene, worker, expected=Expected(before + damaged + behind + beside))
            worker.wait_until(lambda m: m.value("degraded", what="unreadable") == 0, 10, "degraded to end")
        self.assert_alive(vitals)

    def test_damage__is_seen_from_the_middle_of_a_batch(self):
        scene = self.scene(partitions=1)
        damaged, behind = ([delivered(f"{name}-{i}", 4321) for i in range(20)] for name in ("damaged", "behind"))
        for batch in (damaged, behind):
            scene.produce(batch, partition=0)
        good, bad = (b'"damaged-7","status":"delivered","timestamp":"%s' % stamp for stamp in (b"2026", b"2025"))
        self.restart_with(scene, good, bad)
        scene.stack.kafka.group_tool("--group", scene.group, "--topic", scene.topic, "--reset-offsets", "--to-offset",
            "10", "--execute")
        with scene.worker() as worker:
            worker.wait_logged(r"the log can't be read.* partition=0 offset=10\b", 30)
            self.wait_degraded(worker, "unreadable")
            self.assert_looks_again_and_again(worker)
            self.assertEqual((scene.committed(), ledger_totals(scene)[0]), ({0: 10}, 0))
            self.restart_with(scene, bad, good)
            wait_until(lambda: ledger_totals(scene) == Expected(damaged[10:] + behind).totals(), 30, worker.log)
            wait_until(lambda: scene.committed() == {0: 40}, 20, worker.log)
            worker.wait_until(lambda m: m.value("degraded", what="unreadable") == 0, 10, "degraded to end")

    def test_damage__that_the_broker_itself_finds(self):
        """A length that no batch has: the broker answers a fetch from there with an error of its own."""
        scene = self.scene(partitions=2)
        before, damaged, behind, beside = self.produce_batches(scene)
        with open(self.path(scene), "rb") as log:
            content = log.read()
        second = LOG_OVERHEAD + struct.unpack_from(">i", content, 8)[0]
        good = content[second : second + LOG_OVERHEAD + 9]  # offset, length; epoch, format, checksum
        self.assertEqual(struct.unpack_from(">q", good), (20,), "each call's records are one batch")
        bad = good[:8] + struct.pack(">i", 5) + good[LOG_OVERHEAD:]
        self.restart_with(scene, good, bad)
        with scene.worker() as worker, Vitals(worker) as vitals:
            worker.wait_logged(r"the log can't be read.* partition=0 offset=20\b", 30)
            self.wait_degraded(worker, "unreadable")
            wait_until(lambda: scene.committed() == {0: 20, 1: 20}, 20, worker.log)
            self.assert_looks_again_and_again(worker)
            self.assert_commands_say_so(scene, before[3]["order_id"])
            self.restart_with(scene, bad, good)
            self.verdict(scene, worker, expected=Expected(before + damaged + behind + beside))
            worker.wait_until(lambda m: m.value("degraded", what="unreadable") == 0, 10, "degraded to end")
        self.assert_alive(vitals)


if __name__ == "__main__":
    unittest.main()
