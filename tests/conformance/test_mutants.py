"""
The planted bugs of tests/mutants still are bugs of this tree: each patch applies, and the test that must catch it is
there. That it does catch it is shown by `make mutants`, which takes longer.
"""

import importlib.util
import os
import sys
import unittest

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def load_runner():
    """tests/mutants/run.py, whose name is that of tests/run.py."""
    spec = importlib.util.spec_from_file_location("mutants_run", os.path.join(TESTS, "mutants", "run.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Mutants(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mutants = load_runner().load()

    def test_mutants__patches_apply(self):
        self.assertGreater(len(self.mutants), 0)
        for mutant in self.mutants:
            with self.subTest(mutant.name):
                self.assertIsNone(mutant.applies())

    def test_mutants__their_tests_exist(self):
        for mutant in self.mutants:
            with self.subTest(mutant.name):
                self.assertTrue(mutant.test_exists(), f"{mutant.source} has no {mutant.test}")

    def test_mutants__touch_the_code_and_no_test(self):
        for mutant in self.mutants:
            with self.subTest(mutant.name):
                touched = [line[6:] for line in mutant.text.splitlines() if line.startswith("+++ b/")]
                self.assertTrue(touched)
                self.assertLessEqual({name.split("/")[0] for name in touched}, {"common", "schemas", "worker"})


if __name__ == "__main__":
    unittest.main()
