"""The tests do not lean on the machine: neither on what nobody has arranged there, nor on what a shell may hold."""

import os
import subprocess
import sys
import unittest

from stack import ROOT, build_folder

# Debian's for root, in which PostgreSQL's server programs are not.
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class StrangerTest(unittest.TestCase):
    def run_component(self, name, **environment):
        done = subprocess.run([sys.executable, os.path.join(ROOT, "tests", "run.py"), "--build", build_folder(),
            "--only", name, "component"], env={"PATH": PATH, **environment}, capture_output=True, text=True,
            timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout.splitlines()[-1], "^[1-9][0-9]* passed, 0 failed$")

    def test_stranger__servers_are_found_without_a_path_to_them(self):
        self.run_component("test_migrate")

    def test_stranger__a_shell_that_is_set_up_for_another_database(self):
        self.run_component("test_migrate", PGSERVICE="nowhere", PGPORT="1", PGOPTIONS="-c nosuch.thing",
            LANG="de_DE.UTF-8")


if __name__ == "__main__":
    unittest.main()
