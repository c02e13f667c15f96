"""What the cases about Kafka and load share: their scenes, and what must hold at the end of each."""

import unittest

from stack import Scene, shared, wait_until
from stack.events import BASE_RULES, Expected, ledger_totals
from stack.traffic import offsets

MIB = 1024 * 1024


def limits(per_second, burst):
    """The rules of all cases, and a limit for the partner "slow"."""
    return {**BASE_RULES, "partners": [{"partner_id": "slow", "per_second": per_second, "burst": burst}]}


def expected_of(*loads):
    """What several Loads, or lists of events, call for together."""
    return Expected(event for load in loads
        for event in (load if isinstance(load, list) else load.expected.orders.values()))


class FaultCase(unittest.TestCase):
    def scene(self, rules=BASE_RULES, stack=None, **options):
        scene = Scene(stack or shared(), postgres=shared().postgres, **options)
        scene.apply_rules(rules)
        return scene

    def wait_credits(self, scene, more=1, limit_s=40):
        """Until that many more orders are known."""
        before = ledger_totals(scene)[0]
        wait_until(lambda: ledger_totals(scene)[0] >= before + more, limit_s,
            lambda: f"stuck at {before} orders\n" + "\n".join(worker.log() for worker in scene.workers[-1:]))

    def wait_degraded(self, worker, what, wanted=1, limit_s=30):
        return worker.wait_until(lambda m: m.value("degraded", what=what) == wanted, limit_s,
            f"degraded{{{what}}} {wanted}")

    def assert_alive(self, vitals, in_flight=None, memory=64 * MIB):
        """Over the whole time that they were taken."""
        self.assertGreater(vitals.samples, 0)
        self.assertEqual(vitals.not_alive, [])
        self.assertEqual(vitals.unequal, [])
        self.assertLess(vitals.memory_max - vitals.memory_first, memory)
        if in_flight:
            # A consumer may overshoot by the record that it has in its hand.
            self.assertLessEqual(vitals.in_flight_max, in_flight + 1)

    def letters(self, scene, topic=None):
        """{(partition, offset) of the record: its letter}; a copy whose answer was lost may have been sent again."""
        found = {}
        for letter in scene.read(topic or scene.dlq):
            self.assertEqual(letter.header("dw_source_topic"), scene.topic)
            found[int(letter.header("dw_source_partition")), int(letter.header("dw_source_offset"))] = letter
        return found

    def assert_well(self, scene, *workers):
        """They say so themselves, and what they say of the log is so."""
        for worker in workers:
            worker.wait_ready()
            worker.wait_until(lambda m: m.value("degraded") == 0 and m.value("records_in_flight") == 0 and
                m.value("dependency_up") == len(m.series("dependency_up")) and
                (m.is_zero("consumer_lag") or not m.value("assigned_partitions")), 30, "the worker to be well")
        for topic in (scene.topic, scene.deferred):
            ends = offsets(scene.stack.brokers, topic)
            wait_until(lambda: scene.committed(topic) == scene.progress(topic) == ends, 30,
                lambda: f"{topic}: {scene.committed(topic)} in Kafka, {scene.progress(topic)} of {ends}")

            def shown(name):
                found = [pair for worker in workers for pair in worker.metrics().series(name, topic=topic)]
                return sorted((int(labels["partition"]), value) for labels, value in found)

            for name in ("consumer_end_offset", "consumer_committed_offset"):
                wait_until(lambda: shown(name) == sorted(ends.items()), 30,
                    lambda: f"{name} of {topic}: {shown(name)}, not {sorted(ends.items())}")

    def verdict(self, scene, *workers, expected, letters=0, sent_again=False, **known):
        """
        The checker's, of what is settled to the end; then that the load was what the case meant it to be, by its totals
        and how many records are in the dead letters; and that the workers are well. `sent_again`: the publisher met an
        outage, too, so a record may stand in the log twice. `known`: see Scene.check.
        """
        scene.check(*workers, **known)
        self.assertEqual(ledger_totals(scene), expected.totals())
        found = self.letters(scene)
        self.assertEqual(len({letter.value for letter in found.values()} if sent_again else found), letters)
        self.assert_well(scene, *workers)
