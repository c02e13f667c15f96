"""A session of our own beside the worker's: transactions and locks that stay open from one line to the next."""

import subprocess

from .process import StackError


class Session:
    """
        with Session(scene) as other:
            other.run("BEGIN; LOCK TABLE orders")
    """

    END = "-- end of the answer --"

    def __init__(self, scene):
        self.command = ["psql", "-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1",
            "-p", str(scene.postgres.port), "-U", "postgres", "-d", scene.dsn.rpartition("/")[2]]
        self.process = None

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)
        self.run("SET search_path = delivery")
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def run(self, sql):
        """Returns the lines of the answer, once it is whole."""
        self.process.stdin.write(f"{sql};\n\\echo {self.END}\n")
        self.process.stdin.flush()
        lines = []
        for line in self.process.stdout:
            if line.rstrip("\n") == self.END:
                return lines
            lines.append(line.rstrip("\n"))
        raise StackError(f"{sql}: {' '.join(lines)}")
