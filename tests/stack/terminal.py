"""A command on a terminal of a width of our choice: what it reads and writes there, and what a user would see."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import unittest

from .process import wait_until

CONTROL_C, CONTROL_D = b"\x03", b"\x04"
ESCAPE = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])")


class Terminal:
    """
        with Terminal([binary(), "produce"], env, columns=40) as terminal:
            terminal.wait_for("until Ctrl-D")
            terminal.type(b"...\n" + CONTROL_D)
            code = terminal.wait()
            terminal.rows()
    """

    def __init__(self, argv, env, columns=80, stdin=None):
        """`stdin`: of subprocess, when it is not to be the terminal as well. Skips the test where there are no terminals."""
        self.columns = columns
        self.output = b""
        try:
            self.master, slave = pty.openpty()
        except OSError as wrong:  # a chroot without /dev/pts
            raise unittest.SkipTest(f"no terminal can be had here: {wrong}") from None
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        self.child = subprocess.Popen(argv, env=env, stdin=slave if stdin is None else stdin, stdout=slave,
            stderr=slave, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(2, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # Linux' way to say that nobody has it open any more
                return
            if not data:
                return
            self.output += data

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        self.reader.join(10)
        os.close(self.master)

    def text(self):
        return self.output.decode(errors="replace")

    def type(self, data):
        os.write(self.master, data)

    def wait_for(self, text, limit_s=30):
        wait_until(lambda: text in self.text(), limit_s, lambda: f"no {text!r} in {self.text()!r}")

    def wait(self, limit_s=60):
        """Returns the exit code, once all that was written is read."""
        code = self.child.wait(limit_s)
        self.reader.join(10)
        return code

    def rows(self):
        """What stands on the terminal, as rows without trailing spaces; a line that is too long goes on below."""
        rows, row, column, at = [""], 0, 0, 0
        text = self.text()
        while at < len(text):
            escape = ESCAPE.match(text, at)
            if escape:
                if (escape[1], escape[2]) != ("", "K"):
                    raise ValueError(f"not known here: {escape[0]!r}")
                rows[row] = rows[row][:column]
                at = escape.end()
                continue
            char = text[at]
            at += 1
            if char == "\r":
                column = 0
                continue
            if char == "\n" or column == self.columns:
                row += 1
                column = 0 if char != "\n" else column
                rows += [""] * (row + 1 - len(rows))
            if char != "\n":
                rows[row] = rows[row][:column].ljust(column) + char + rows[row][column + 1:]
                column += 1
        return [each.rstrip() for each in rows]
