"""
Rate limits of partners protect the ledger, and cost a record nothing but time: over the limit it waits in the deferred
topic and is credited in the end, never dropped, never dead-lettered (contract, sections 5 and 6).
"""

import time
import unittest

from stack import Record, Scene, Session, shared, wait_until
from stack.events import BASE_RULES, Expected, delivered, event, ledger_totals
from stack.load import Load
from stack.traffic import encode, offsets

HEADERS = [("trace", b"\x00\xff"), ("again", b"1"), ("again", b"2"), ("null", None)]

# No limit's turn comes as late as this.
NEVER_MS = 600000


def limits(partner_id, per_second, burst):
    return {**BASE_RULES, "partners": [{"partner_id": partner_id, "per_second": per_second, "burst": burst}]}


class LimitsTest(unittest.TestCase):
    def scene(self, rules=BASE_RULES, **more):
        scene = Scene(shared(), **more)
        scene.apply_rules(rules)
        return scene

    def wait_main(self, scene, *workers):
        """Until the main topic is settled, whatever waits in the deferred one."""
        ends = offsets(scene.stack.brokers, scene.topic)
        wait_until(lambda: all(scene.progress(scene.topic).get(p, 0) == end for p, end in ends.items()), 30,
            lambda: f"{scene.progress(scene.topic)} of {ends}\n" + "\n".join(worker.log() for worker in workers))

    def outcomes(self, total, *workers):
        """{outcome: number} over the workers, once they have settled `total`; heads that wait are in flight."""
        sums = {}

        def settled():
            sums.clear()
            for worker in workers:
                metrics = worker.metrics()
                consumed, accounted = metrics.conservation()
                self.assertEqual(consumed, accounted)
                for outcome, count in metrics.by("records_settled_total", "outcome").items():
                    sums[outcome] = sums.get(outcome, 0) + int(count)
            return sum(sums.values()) >= total

        wait_until(settled, 20, lambda: f"{sums}, not {total}")
        self.assertEqual(sum(sums.values()), total)
        return sums

    def wait_rules(self, *workers):
        """Until limits of partners are known: a test of the limits themselves, not of when they begin."""
        for worker in workers:
            wait_until(lambda: 'msg="rules loaded"' in worker.log(1000), 20, lambda: f"no rules\n{worker.log()}")

    def assert_sources(self, scene, sent):
        """Every posting names the record that was first sent; `sent` maps order ids to Records read back."""
        rows = scene.psql("SELECT order_id, source_topic, source_partition, source_offset FROM postings")
        self.assertEqual({row[0] for row in rows}, set(sent))
        for order_id, topic, partition, offset in rows:
            record = sent[order_id]
            self.assertEqual((topic, int(partition), int(offset)), (scene.topic, record.partition, record.offset))

    def test_limits__over_the_limit_is_deferred_and_credited_in_the_end(self):
        scene = self.scene(limits("slow", 5, 3), **{"rate.defer_ms": 800})
        events = [delivered(f"slow-{i}", partner_id="slow") for i in range(12)]
        events += [delivered(f"free-{i}", partner_id="free") for i in range(12)]
        with scene.worker() as worker:
            self.wait_rules(worker)
            scene.send([Record(encode(one), one["order_id"].encode() + b"\xff", HEADERS) for one in events])
            scene.check(worker)
            outcomes = self.outcomes(len(events) + len(scene.read(scene.deferred)), worker)
        sent = {record.key: record for record in scene.read()}
        copies = scene.read(scene.deferred)
        # 3 at once and 5 a second: of 12 some were deferred again.
        self.assertGreater(len(copies), 9)
        self.assertEqual(outcomes["deferred"], len(copies))
        self.assertEqual(outcomes["dead_lettered"], 0)
        self.assertGreaterEqual(len({copy.key for copy in copies}), 8)
        slots = {}
        for copy in copies:
            original = sent[copy.key]
            self.assertIn(b'"slow"', copy.value)
            self.assertEqual(copy.value, original.value)
            self.assertEqual(copy.headers[:len(HEADERS)], HEADERS)
            self.assertEqual(copy.names()[len(HEADERS):], ["dw_not_before_ms", "dw_slot_ms", "dw_limit",
                "dw_source_topic", "dw_source_partition", "dw_source_offset", "dw_source_timestamp_ms"])
            self.assertEqual((copy.header("dw_source_topic"), int(copy.header("dw_source_partition")),
                int(copy.header("dw_source_offset")), int(copy.header("dw_source_timestamp_ms"))),
                (scene.topic, original.partition, original.offset, original.timestamp_ms))
            slots.setdefault(copy.key, set()).add((int(copy.header("dw_slot_ms")), copy.header("dw_limit")))
            # Within the delay of its class: of two partitions the first is class 0, the other class 2.
            self.assertLessEqual(int(copy.header("dw_not_before_ms")) - copy.timestamp_ms, 800 * 16 ** copy.partition)
        # Charged once: each has its own slot, a fifth of a second behind the one before.
        self.assertEqual({len(own) for own in slots.values()}, {1}, slots)
        times = sorted(slot_ms for [(slot_ms, _)] in slots.values())
        for one, next_one in zip(times, times[1:]):
            self.assertAlmostEqual(next_one - one, 200, delta=50)
        [limit] = {limit for [(_, limit)] in slots.values()}
        self.assertRegex(limit, "^5:[1-9][0-9]*$")
        self.assertEqual(scene.read(scene.dlq), [])
        self.assertEqual(ledger_totals(scene), Expected(events).totals())
        self.assert_sources(scene, {record.key[:-1].decode(): record for record in sent.values()})

    def test_limits__a_copy_without_a_report_settles_nothing(self):
        scene = self.scene(limits("slow", 1, 1), partitions=1, **{"rate.defer_ms": 500, "workers": 1,
            "pg.statement_timeout_ms": 500, "kafka.session.timeout.ms": 30000})
        slow = [delivered(f"slow-{i}", partner_id="slow") for i in range(6)]
        kafka = scene.stack.kafka
        self.addCleanup(kafka.thaw)
        with scene.worker() as worker:
            self.wait_rules(worker)
            worker.wait_until(lambda m: m.value("assigned_partitions") > 0, 20)
            # The first is admitted and waits for the table, and the others behind it.
            with Session(scene) as other:
                other.run("BEGIN; LOCK TABLE orders IN EXCLUSIVE MODE")
                scene.produce(slow)
                worker.wait_until(lambda m: m.value("pg_transactions_total", result="retried") >= 1 and
                    m.value("records_consumed_total") == len(slow), 20)
                kafka.freeze()
            wait_until(lambda: scene.progress(scene.topic).get(0, 0) >= 1, 20, worker.log)
            # Long behind the sending of the copies.
            metrics = worker.wait_until(lambda m: m.value("dependency_up", dependency="kafka") == 0, 20)
            credited = metrics.value("records_settled_total", outcome="credited")
            self.assertEqual(metrics.value("records_settled_total"), credited)
            self.assertEqual(metrics.value("records_in_flight"), len(slow) - credited)
            self.assertLessEqual(scene.progress(scene.topic)[0], credited)
            kafka.thaw()
            scene.check(worker)
            self.assertGreaterEqual(worker.metrics().value("records_settled_total", outcome="deferred"), 2)
        self.assertEqual(ledger_totals(scene), Expected(slow).totals())

    def test_limits__a_deferred_record_waits_until_it_is_due(self):
        scene = self.scene(deferred_partitions=1)
        with scene.worker() as worker:
            worker.wait_until(lambda m: m.value("assigned_partitions") == 5, 20)
            due_ms = int(time.time() * 1000) + 2500
            hour_ago = str(due_ms - 3600000).encode()
            headers = [("dw_not_before_ms", str(due_ms).encode()), ("dw_source_topic", b"elsewhere"),
                ("dw_source_partition", b"0"), ("dw_source_timestamp_ms", hour_ago)]
            scene.send([Record(encode(delivered(name)), headers=headers + [("dw_source_offset", offset)])
                for name, offset in (("head", b"1"), ("behind", b"2"))], scene.deferred)
            worker.wait_until(lambda m: m.value("consumer_partition_paused", topic=scene.deferred) == 1 and
                m.value("records_in_flight") == 1 and m.value("consumer_lag_seconds", topic=scene.deferred) > 0, 10)
            metrics = worker.metrics()
            self.assertLess(time.time() * 1000, due_ms, "too slow a machine for this test")
            self.assertEqual(metrics.value("records_settled_total"), 0)
            # Counted from the original's time, not from the copy's.
            worker.wait_until(lambda m: 3590 <= m.value("deferred_oldest_age_seconds") <= 3605, 10)
            scene.check(worker)
            self.assertGreaterEqual(time.time() * 1000, due_ms)
            worker.wait_until(lambda m: m.value("deferred_oldest_age_seconds") == 0, 10)
            worker.wait_until(lambda m: m.value("consumer_partition_paused", topic=scene.deferred) == 0, 10)
        applied = scene.psql("SELECT min(extract(epoch FROM posted_at) * 1000) FROM postings")[0][0]
        self.assertGreaterEqual(float(applied), due_ms)
        self.assertEqual(ledger_totals(scene)[0], 2)

    def test_limits__nobody_is_held_longer_than_the_delay(self):
        """A due time of tomorrow: a replica's clock, or copies of a longer rate.defer_ms."""
        scene = self.scene(deferred_partitions=1, **{"rate.defer_ms": 700})
        with scene.worker() as worker:
            worker.wait_until(lambda m: m.value("assigned_partitions") == 5, 20)
            tomorrow_ms = str(int(time.time() * 1000) + 86400000).encode()
            scene.send([Record(encode(delivered(f"o{i}")), headers=[("dw_not_before_ms", tomorrow_ms)] * (i % 2 == 0))
                for i in range(6)], scene.deferred)
            scene.check(worker)
        self.assertEqual(ledger_totals(scene)[0], 6)

    def passed_at(self, scene):
        """When each order was credited, in seconds, in order."""
        rows = scene.psql("SELECT extract(epoch FROM min(posted_at)) FROM postings GROUP BY order_id")
        return sorted(float(at) for [at] in rows)

    def assert_rate(self, times, burst, per_second, defer_s):
        """At most burst + rate × (T + 2 × rate.defer_ms), whenever one looks."""
        for i, begin in enumerate(times):
            for j in range(i, len(times)):
                self.assertLessEqual(j - i + 1, burst + per_second * (times[j] - begin + 2 * defer_s) + 1)

    def test_limits__a_backlog_waits_in_classes(self):
        records, rate, defer_ms = 300, 40, 250
        scene = self.scene(limits("slow", rate, 1), deferred_partitions=4, **{"rate.defer_ms": defer_ms})
        events = [delivered(f"o{i}", partner_id="slow") for i in range(records)]
        with scene.worker() as worker:
            self.wait_rules(worker)
            scene.produce(events)
            scene.check(worker)
            metrics = worker.metrics()
        copies, by_class = scene.read(scene.deferred), {}
        for copy in copies:
            by_class.setdefault(copy.key, [0] * 4)[copy.partition] += 1
            self.assertLessEqual(int(copy.header("dw_not_before_ms")) - copy.timestamp_ms, defer_ms * 4 ** copy.partition)
        self.assertGreater(len(by_class), records - 60)
        self.assertGreater(sum(counts[2] > 0 for counts in by_class.values()), records // 4, "none waits for long")
        for key, counts in by_class.items():
            # Three whole delays a class at the most, and what is left in the shortest.
            self.assertTrue(counts[0] <= 4 and max(counts[1:]) <= 3, f"{key}: {counts}")
        self.assertLess(len(copies), 7 * len(by_class))
        self.assertEqual(metrics.value("deferred_copies_total", kind="first"), len(by_class))
        self.assertEqual(metrics.value("deferred_copies_total", kind="again"), len(copies) - len(by_class))
        self.assertEqual(ledger_totals(scene), Expected(events).totals())
        times = self.passed_at(scene)
        self.assert_rate(times, 1, rate, defer_ms / 1000)
        # Nor slower than that.
        self.assertLess(times[-1] - times[0], records / rate + 4 * defer_ms / 1000)

    def test_limits__slots_of_a_lost_key_are_asked_for_anew(self):
        records, rate, defer_ms = 240, 40, 250
        scene = self.scene(limits("slow", rate, 1), deferred_partitions=4, **{"rate.defer_ms": defer_ms})
        with scene.worker() as worker:
            self.wait_rules(worker)
            scene.produce([delivered(f"o{i}", partner_id="slow") for i in range(records)])
            self.wait_main(scene, worker)
            worker.wait_until(lambda m: m.value("records_settled_total", outcome="credited") >= 40, 20)
            scene.stack.flush_redis()
            scene.check(worker)
        limits_of = {}
        for copy in scene.read(scene.deferred):
            limits_of.setdefault(copy.key, set()).add(copy.header("dw_limit"))
        self.assertEqual(len(set.union(*limits_of.values())), 2, "the key was lost once")
        self.assertGreater(sum(len(own) == 2 for own in limits_of.values()), records // 4)
        self.assert_rate(self.passed_at(scene), 1, rate, defer_ms / 1000)

    def test_limits__duplicates_are_not_charged(self):
        scene = self.scene(limits("slow", 1, 4), **{"rate.defer_ms": NEVER_MS})
        events = [delivered(f"o{i}", partner_id="slow") for i in range(3)]
        with scene.worker() as worker:
            self.wait_rules(worker)
            scene.produce(events + events)
            scene.wait_settled(worker)
            for _ in range(5):
                scene.produce(events * 10)
                scene.check(worker)
            outcomes = self.outcomes(156, worker)
        self.assertEqual((outcomes["deferred"], outcomes["credited"]), (0, 3))
        self.assertEqual(outcomes["duplicate"], 153)
        self.assertEqual(ledger_totals(scene), Expected(events).totals())

    def test_limits__records_without_a_partner_are_never_limited(self):
        scene = self.scene(**{"rate.partner.per_second": 1, "rate.partner.burst": 1, "rate.defer_ms": NEVER_MS})
        scene.produce([event(f"o{i}", customer_id="c1") for i in range(100)])
        with scene.worker() as worker:
            scene.check(worker)
            outcomes = self.outcomes(100, worker)
        self.assertEqual((outcomes["deferred"], outcomes["recorded"]), (0, 100))

    def test_limits__a_partners_own_limit_goes_above_the_default(self):
        rules = {**BASE_RULES, "partners": [{"partner_id": "wide", "per_second": 1000000, "burst": 1000000},
            {"partner_id": "free", "per_second": 0, "burst": 1}, {"partner_id": "plain"}]}
        scene = self.scene(rules, **{"rate.partner.per_second": 1, "rate.partner.burst": 1, "rate.defer_ms": NEVER_MS})
        with scene.worker() as worker:
            self.wait_rules(worker)
            scene.produce([delivered(f"{who}-{i}", partner_id=who) for who in ("wide", "free", "plain")
                for i in range(20)])
            self.wait_main(scene, worker)
        deferred = [record.key.split(b"-")[0] for record in scene.read(scene.deferred)]
        self.assertEqual(set(deferred), {b"plain"})
        self.assertGreaterEqual(len(deferred), 15)
        scene.check_ledger()

    def test_limits__hold_from_the_first_record_on(self):
        scene = self.scene(limits("slow", 1, 5), **{"rate.defer_ms": NEVER_MS})
        scene.produce([delivered(f"o{i}", partner_id="slow") for i in range(100)])
        with scene.worker() as worker:
            self.wait_main(scene, worker)
            self.assertGreaterEqual(worker.metrics().value("deferred_copies_total", kind="first"), 80)
        scene.check_ledger()

    def test_limits__new_ones_are_learned_under_load(self):
        """Who asks for progress without a pause does not keep the rules from being read."""
        scene = self.scene(partitions=4, **{"commit.interval_ms": 10, "consumers": 2, "batch.max": 1})
        scene.slow_down(0.01)
        load = Load(scene)
        load.send(2000)
        with scene.worker() as worker:
            wait_until(lambda: ledger_totals(scene)[0] > 100, 30, worker.log)
            scene.apply_rules(limits("p1", 1000000, 1000000))
            wait_until(lambda: 'msg="rules loaded" revision=2' in worker.log(10000), 30, worker.log, every_s=0.1)
            self.assertGreater(worker.metrics().value("records_in_flight"), 100, "the load was over")
            scene.psql("DROP TRIGGER dawdle ON orders")
            scene.wait_settled(worker)
            scene.check(worker)

    def test_limits__two_workers_share_a_limit(self):
        burst, records = 20, 400
        scene = self.scene(limits("slow", 1, burst), **{"rate.defer_ms": NEVER_MS, "batch.max": 5})
        with scene.worker() as first, scene.worker() as second:
            for worker in (first, second):
                # Both have partitions of the main topic: else one of them would do it all.
                worker.wait_until(lambda m: 0 < m.value("assigned_partitions") < 6, 30)
            self.wait_rules(first, second)
            started = time.monotonic()
            scene.produce([delivered(f"o{i}", partner_id="slow") for i in range(records)])
            self.wait_main(scene, first, second)
            elapsed_s = time.monotonic() - started
            for worker in (first, second):
                self.assertGreater(worker.metrics().value("records_settled_total", outcome="deferred"), 0)
            deferred = sum(int(worker.metrics().value("deferred_copies_total", kind="first"))
                for worker in (first, second))
        self.assertLessEqual(records - deferred, burst + elapsed_s + 1)
        self.assertGreaterEqual(records - deferred, burst)
        sources = {(copy.header("dw_source_partition"), copy.header("dw_source_offset"))
            for copy in scene.read(scene.deferred)}
        self.assertEqual(len(sources), deferred)
        scene.check_ledger()

    # Redis away

    def cut_redis(self, scene):
        scene.stack.kill_redis()
        self.addCleanup(lambda: scene.stack.redis.process.alive() or scene.stack.start_redis())

    def assert_rate_limit_degraded(self, scene, worker, wanted):
        """Redis is asked by batches only, so something must come for the state to show."""
        numbers = iter(range(1000))

        def shows():
            scene.produce([event(f"knock-{wanted}-{next(numbers)}")])
            return worker.metrics().value("degraded", what="rate_limit") == wanted

        wait_until(shows, 20, lambda: f"degraded{{rate_limit}} is not {wanted}\n{worker.log()}")

    def test_limits__without_redis_a_worker_limits_by_itself(self):
        scene = self.scene(limits("slow", 1, 5), **{"rate.defer_ms": NEVER_MS})
        free = [delivered(f"free-{i}", partner_id="free") for i in range(30)]
        slow = [delivered(f"slow-{i}", partner_id="slow") for i in range(30)]
        with scene.worker() as worker:
            self.wait_rules(worker)
            scene.produce([delivered("slow-first", partner_id="slow")])
            scene.wait_settled(worker)
            self.cut_redis(scene)
            scene.produce(slow + free)
            self.wait_main(scene, worker)
            metrics = worker.metrics()
            self.assertEqual(metrics.value("degraded", what="rate_limit"), 1)
            self.assertEqual(metrics.value("dependency_up", dependency="redis"), 0)
            self.assertEqual(worker.get("/readyz")[0], 200)
            deferred = worker.metrics().value("deferred_copies_total", kind="first")
            # This worker has all partitions, so the whole limit: 5 at once and one a second.
            self.assertLess(deferred, 30)
            self.assertGreater(deferred, 10)
            credited = scene.psql("SELECT count(DISTINCT order_id) FROM postings WHERE order_id LIKE 'free-%'")
            self.assertEqual(credited, [("30",)])
            scene.stack.start_redis()
            self.assert_rate_limit_degraded(scene, worker, 0)
            self.wait_main(scene, worker)
        self.assertEqual(scene.read(scene.dlq), [])
        scene.check_ledger()

    def test_limits__rate_on_outage_wait_holds_until_redis_is_back(self):
        scene = self.scene(limits("slow", 1000, 1000), **{"rate.on_outage": "wait"})
        events = [delivered(f"o{i}", partner_id="slow") for i in range(20)]
        self.cut_redis(scene)
        with scene.worker() as worker:
            self.wait_rules(worker)
            scene.produce(events)
            metrics = worker.wait_until(
                lambda m: m.value("redis_requests_total", op="admit", result="failed") >= 3 and
                m.value("records_consumed_total") == len(events), 20)
            self.assertEqual(metrics.value("records_settled_total"), 0)
            self.assertEqual(metrics.value("degraded", what="rate_limit"), 1)
            self.assertEqual(ledger_totals(scene)[0], 0)
            self.assertEqual(worker.get("/livez")[0], 200)
            scene.stack.start_redis()
            scene.check(worker)
            outcomes = self.outcomes(len(events), worker)
        self.assertEqual(outcomes["credited"], len(events))
        self.assertEqual(ledger_totals(scene), Expected(events).totals())

    # headers that others wrote

    def test_limits__a_foreign_record_in_the_deferred_topic_is_processed(self):
        scene = self.scene(deferred_partitions=1)
        events = [delivered("plain"), delivered("odd")]
        scene.send([Record(encode(events[0])),
            Record(encode(events[1]), headers=[("dw_not_before_ms", b"soon"), ("dw_source_offset", b"-7"),
                ("dw_source_topic", None)]),
            Record(b"{", b"key")], scene.deferred)
        with scene.worker() as worker:
            scene.check(worker)
        self.assertEqual(ledger_totals(scene), Expected(events).totals())
        rows = scene.psql("SELECT DISTINCT order_id, source_topic, source_partition, source_offset FROM postings")
        self.assertEqual(sorted(rows), [("odd", scene.deferred, "0", "1"), ("plain", scene.deferred, "0", "0")])
        [letter] = scene.read(scene.dlq)
        self.assertEqual((letter.key, letter.value), (b"key", b"{"))
        self.assertEqual((letter.header("dw_source_topic"), letter.header("dw_source_offset")), (scene.deferred, "2"))

    def test_limits__forged_headers_on_the_main_topic_are_not_believed(self):
        scene = self.scene(limits("slow", 1, 1), partitions=1, **{"rate.defer_ms": 500})
        far_ms = str(int(time.time() * 1000) + 10 * NEVER_MS).encode()
        forged = [("dw_not_before_ms", far_ms), ("dw_source_topic", b"elsewhere"), ("dw_source_partition", b"7"),
            ("dw_source_offset", b"4711"), ("dw_source_timestamp_ms", far_ms)]
        events = [delivered(f"o{i}", partner_id="slow") for i in range(3)]
        # An hour ahead of the record's own time, not of the forged one.
        ahead = delivered("ahead", timestamp=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600)))
        with scene.worker() as worker:
            self.wait_rules(worker)
            scene.send([Record(encode(one), one["order_id"].encode(), forged) for one in events + [ahead]])
            scene.check(worker)
        self.assertEqual(ledger_totals(scene), Expected(events).totals())
        self.assert_sources(scene, {record.key.decode(): record for record in scene.read() if record.key != b"ahead"})
        copies = scene.read(scene.deferred)
        self.assertGreaterEqual(len(copies), 2)
        for copy in copies:
            self.assertEqual(copy.header("dw_source_topic"), scene.topic)
            self.assertLess(int(copy.header("dw_not_before_ms")), int(far_ms))
        [letter] = scene.read(scene.dlq)
        self.assertEqual((letter.header("dw_error_code"), letter.header("dw_error_field")),
            ("out_of_range", "timestamp"))
        self.assertEqual(letter.header("dw_source_offset"), "3")

    def test_limits__rules_that_did_not_change_are_not_read_again(self):
        scene = self.scene(**{"rules.poll_ms": 100})
        scans = "SELECT seq_scan + idx_scan FROM pg_stat_user_tables WHERE relname = '{}'"
        with scene.worker() as worker:
            self.wait_rules(worker)
            before = {name: int(scene.psql(scans.format(name))[0][0]) for name in ("history", "rules", "partners")}
            # The server's statistics are a second late: these are of many looks, of which the first may have read.
            wait_until(lambda: int(scene.psql(scans.format("history"))[0][0]) > before["history"] + 40, 30, worker.log)
            for name in ("rules", "partners"):
                self.assertLessEqual(int(scene.psql(scans.format(name))[0][0]) - before[name], 2, name)
            scene.apply_rules({"rules": [{**BASE_RULES["rules"][0], "points": 3}]})
            wait_until(lambda: 'msg="rules loaded" revision=2' in worker.log(10000), 30, worker.log)


if __name__ == "__main__":
    unittest.main()
