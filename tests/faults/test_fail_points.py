"""Fail points are in test builds only, and there at every step of a record's way."""

import os
import re
import subprocess
import unittest

import crash_matrix
from stack import ROOT, binary


class FailPointsTest(unittest.TestCase):
    def test_fail_points__are_not_in_the_binary(self):
        """Neither the table, nor the code, nor the debug information of either."""
        words = [point["name"] for point in crash_matrix.points()] + ["fail_point", "FAIL_POINT", "DW_TEST_FAILPOINT"]
        found = {}
        for path in (binary(), crash_matrix.program()):
            with open(path, "rb") as program:
                content = program.read()
            found[path] = [word for word in words if word.encode() in content]
        self.assertEqual(found[binary()], [])
        self.assertEqual(found[crash_matrix.program()], words)

    def test_fail_points__are_at_every_step(self):
        with open(os.path.join(ROOT, "HACKING.md"), encoding="utf-8") as page:
            steps = re.findall(r"^\| \*\*(.+?)\*\*", page.read(), re.M)
        self.assertGreaterEqual(len(steps), 10)
        # Beside the way: copies to other topics, and which partitions are ours.
        self.assertEqual({point["step"] for point in crash_matrix.points()}, {*steps, "copy", "assign"})

    def test_fail_points__a_request_that_names_none_is_refused(self):
        for request in ("after_pol:0:0:kill", "after_poll:0:0:kil", "after_poll:x:0:kill", "after_poll:0:-1:kill", "after_poll:0:0",
            "after_poll:0:0:kill:0", ""):
            with self.subTest(request):
                done = subprocess.run([crash_matrix.program(), "version"], capture_output=True,
                    env={**os.environ, "DW_TEST_FAILPOINT": request})
                self.assertNotEqual(done.returncode, 0)


if __name__ == "__main__":
    unittest.main()
