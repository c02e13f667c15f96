"""Each fuzz target for a number of runs from one seed: the same inputs every time. `make fuzz` goes on from there."""

import os
import tempfile
import unittest

import campaign

SEED = 1
RUNS = 30000
# A run of the options writes and reads a file; one of the scans escapes its text twice and parses it.
RUNS_OF = {"options": 6000, "json_scan": 15000}


class FuzzTest(unittest.TestCase):
    def fuzz(self, target):
        runs = RUNS_OF.get(target, RUNS)
        with tempfile.TemporaryDirectory() as found:
            run = campaign.Run(target, found, seed=SEED, runs=runs)
        self.assertTrue(run.passed(), run.verdict() + "\n" + run.explanation())
        self.assertGreaterEqual(run.runs, runs, run.explanation())
        self.assertGreater(run.seeds, 3, "a corpus")

    def test_fuzz__every_corpus_has_a_target(self):
        corpora = {name.removesuffix(".dict") for name in os.listdir(os.path.join(campaign.FOLDER, "corpus"))}
        self.assertEqual(corpora, {campaign.CORPUS_OF.get(target, target) for target in campaign.targets()})


for noun in campaign.targets():
    setattr(FuzzTest, f"test_fuzz__{noun}", lambda self, noun=noun: self.fuzz(noun))


if __name__ == "__main__":
    unittest.main()
