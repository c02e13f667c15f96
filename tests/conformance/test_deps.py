"""tests/deps.sh for one who may not install: the command that it names works as it stands."""

import os
import shutil
import subprocess
import tempfile
import unittest

from stack import ROOT

TOOLS = ("bash", "env", "sed", "head", "sort")


class DepsTest(unittest.TestCase):
    def run_deps(self, known, *goals):
        """On a machine without anything and without root, where APT knows the packages `known`."""
        with tempfile.TemporaryDirectory() as folder:
            for tool in TOOLS:
                os.symlink(shutil.which(tool), os.path.join(folder, tool))
            for name, body in (
                ("id", "echo 1000"), ("sudo", "exit 1"), ("apt-get", "exit 1"),
                ("apt-cache", f"case ' {' '.join(known)} ' in *\" $2 \"*) exit 0 ;; esac; exit 100"),
            ):
                path = os.path.join(folder, name)
                with open(path, "w", encoding="ascii") as out:
                    out.write(f"#!/bin/bash\n{body}\n")
                os.chmod(path, 0o755)
            return subprocess.run([os.path.join(ROOT, "tests", "deps.sh"), *goals], env={"PATH": folder},
                capture_output=True, text=True, timeout=30)

    def test_deps__names_packages_as_they_are_called_here(self):
        for known, packages in (
            (("openjdk-17-jre-headless", "linux-perf"), ["linux-perf", "maven", "openjdk-17-jre-headless", "valgrind"]),
            ((), ["default-jre-headless", "linux-tools-generic", "maven", "valgrind"]),
        ):
            with self.subTest(known=known):
                done = self.run_deps(known, "kafka", "bench", "kafka")
                self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
                self.assertEqual(done.stderr, f"deps: missing; run: sudo apt-get install {' '.join(packages)}\n")


if __name__ == "__main__":
    unittest.main()
