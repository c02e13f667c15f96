"""A private Redis without persistence: what it forgets, it forgets for good."""

import os
import shutil
import socket

from .process import Server, StackError, unprivileged_user


class Redis(Server):
    def __init__(self, folder, keeper):
        super().__init__("redis", folder, keeper)
        self.user = unprivileged_user()
        self.data = os.path.join(folder, "redis")

    def init(self):
        if not shutil.which("redis-server"):
            raise StackError("redis-server not found: Redis is not installed (make deps)")
        os.mkdir(self.data, 0o700)
        if self.user:
            os.chown(self.data, self.user.pw_uid, self.user.pw_gid)

    def launch(self):
        self.process.launch(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                "--dir", self.data, "--daemonize", "no"],
            user=self.user)

    def ready(self):
        try:
            return self.command("CONFIG", "GET", "dir")[1] == self.data
        except (OSError, StackError, IndexError):
            return False

    def url(self, database=0):
        return f"redis://localhost:{self.port}/{database}"

    def command(self, *words, limit_s=5):
        """Sends one command. Returns the reply: text, number, None or a list of those."""
        request = f"*{len(words)}\r\n".encode()
        for word in words:
            data = word if isinstance(word, bytes) else str(word).encode()
            request += b"$%d\r\n%s\r\n" % (len(data), data)
        with socket.create_connection(("127.0.0.1", self.port), timeout=limit_s) as connection:
            connection.sendall(request)
            with connection.makefile("rb") as stream:
                return self._reply(stream)

    def _reply(self, stream):
        line = stream.readline()
        if not line.endswith(b"\r\n"):
            raise StackError("redis closed the connection")
        kind, rest = line[:1], line[1:-2].decode("utf-8", "surrogateescape")
        if kind == b"-":
            raise StackError(f"redis: {rest}")
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        size = int(rest)
        if size < 0:
            return None
        if kind == b"*":
            return [self._reply(stream) for _ in range(size)]
        return stream.read(size + 2)[:-2].decode("utf-8", "surrogateescape")
