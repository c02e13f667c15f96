"""
The crash matrix, each case once (crash_matrix.py; `make crash` runs more): a worker is killed, frozen until the group
has forgotten it, or told to leave, at each of its fail points. The cases mostly wait for sessions to run out, so some
run at the same time, begun ahead of their turn.
"""

import concurrent.futures
import unittest

import crash_matrix
from stack import shared

SEED = 1
CASES = {f"test_crash__{case.verb}_{case.point['name']}": case for case in crash_matrix.cases(SEED)}


class CrashTest(unittest.TestCase):
    announced = []
    pool = None
    begun = {}

    def announce(self):
        self.announced.append(self._testMethodName)

    @classmethod
    def setUpClass(cls):
        stack = shared()
        cls.pool = concurrent.futures.ThreadPoolExecutor(crash_matrix.AT_A_TIME)
        cls.begun = {name: cls.pool.submit(CASES[name].run, stack) for name in cls.announced}

    @classmethod
    def tearDownClass(cls):
        cls.pool.shutdown(cancel_futures=True)

    def run_case(self):
        name = self._testMethodName
        if name in self.begun:
            self.begun[name].result()
        else:
            CASES[name].run(shared())


for name in CASES:
    setattr(CrashTest, name, CrashTest.run_case)


if __name__ == "__main__":
    unittest.main()
