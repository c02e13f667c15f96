"""tests/deps.sh for one who may not install: the command that it names works as it stands."""

import os
import shutil
import subprocess
import tempfile
import unittest

from stack import ROOT

TOOLS = ("bash", "env", "sed", "head", "sort")


# What APT says of a name that it can install, of one that is only provided or gone, of one that it does not know.
APT_CACHE = """
case $1 in
policy)
    [ "$LC_ALL" = C ] && candidate=Candidate || candidate=Installationskandidat
    case " {known} " in
    *" $2 "*) printf '%s:\\n  Installed: (none)\\n  %s: 1.0-1\\n' "$2" $candidate ;;
    *) case " {named} " in *" $2 "*) printf '%s:\\n  Installed: (none)\\n  %s: (none)\\n' "$2" $candidate ;; esac ;;
    esac ;;
show) case " {known} {named} " in *" $2 "*) ;; *) exit 100 ;; esac ;;
depends) [ "$LC_ALL" = C ] && echo '  Depends: clang-19' || echo '  Hängt ab von: clang-19' ;;
esac
"""


class DepsTest(unittest.TestCase):
    def run_deps(self, known, named, *goals, sudo="exit 1"):
        """
        On a machine without anything, without root and with somebody's locale, where APT can install the packages
        `known`, and knows of `named` no more than the name.
        """
        with tempfile.TemporaryDirectory() as folder:
            for tool in TOOLS:
                os.symlink(shutil.which(tool), os.path.join(folder, tool))
            for name, body in (
                ("id", "echo 1000"), ("sudo", sudo), ("apt-get", "exit 1"),
                ("apt-cache", APT_CACHE.format(known=" ".join(known), named=" ".join(named))),
            ):
                path = os.path.join(folder, name)
                with open(path, "w", encoding="utf-8") as out:
                    out.write(f"#!/bin/bash\n{body}\n")
                os.chmod(path, 0o755)
            return subprocess.run([os.path.join(ROOT, "tests", "deps.sh"), *goals],
                env={"PATH": folder, "LANG": "de_DE.UTF-8"}, capture_output=True, text=True, timeout=30)

    def test_deps__names_packages_as_they_are_called_here(self):
        for known, named, packages in (
            (("openjdk-17-jre-headless", "linux-perf", "libclang-rt-19-dev"), (),
                ["libclang-rt-19-dev", "linux-perf", "openjdk-17-jre-headless"]),
            (("default-jre-headless", "linux-perf", "libclang-rt-19-dev"), ("openjdk-17-jre-headless",),
                ["default-jre-headless", "libclang-rt-19-dev", "linux-perf"]),
            ((), (), ["default-jre-headless", "libclang-common-19-dev", "linux-tools-generic"]),
        ):
            with self.subTest(known=known, named=named):
                done = self.run_deps(known, named, "kafka", "bench", "fuzz", "kafka")
                self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
                begin = "deps: missing; run: sudo apt-get install "
                self.assertEqual(done.stderr[:len(begin)], begin)
                chosen = done.stderr[len(begin):].split()
                self.assertEqual([name for name in chosen if name.startswith(("default-", "openjdk-", "linux-",
                    "libclang-"))], packages)
                self.assertEqual(chosen, sorted(set(chosen)))

    def test_deps__what_is_not_found_after_the_installation_is_named(self):
        done = self.run_deps(("openjdk-17-jre-headless",), (), "kafka", sudo="exit 0")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("still not found: java maven", done.stderr)


if __name__ == "__main__":
    unittest.main()
