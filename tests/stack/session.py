"""A session of our own beside the worker's: transactions and locks that stay open from one line to the next."""

import contextlib
import subprocess

from .process import StackError


class Session:
    """
        with Session(scene) as other:
            other.run("BEGIN; LOCK TABLE orders")
    """

    END = "-- end of the answer --"

    def __init__(self, scene):
        """As superuser, in the ledger's schema."""
        self.process = subprocess.Popen(["psql", "-X", "-q", "-t", "-A", "-h", "127.0.0.1",
            "-p", str(scene.postgres.port), "-U", "postgres", "-d", scene.postgres.database_of(scene.dsn)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.run("SET search_path = delivery")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def ask(self, sql):
        """Returns the answer's lines once it is whole, errors included."""
        self.process.stdin.write(f"{sql};\n\\echo {self.END}\n")
        self.process.stdin.flush()
        lines = []
        for line in self.process.stdout:
            if line.rstrip("\n") == self.END:
                return lines
            lines.append(line.rstrip("\n"))
        raise StackError(f"psql left: {sql}: {' '.join(lines)}")

    def run(self, sql):
        """The same, of what must not fail."""
        lines = self.ask(sql)
        if any(line.startswith("ERROR:") for line in lines):
            raise StackError(f"{sql}: {' '.join(lines)}")
        return lines

    @contextlib.contextmanager
    def locked(self):
        self.lock()
        try:
            yield
        finally:
            self.unlock()

    def lock(self):
        """Nobody writes an order any more; reading goes on."""
        self.run("BEGIN; LOCK TABLE orders IN EXCLUSIVE MODE")

    def unlock(self):
        self.run("ROLLBACK")
