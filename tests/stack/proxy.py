"""
A relay on a port of its own in front of a server, which does on command what networks do.

    with Proxy(server.port) as proxy:
        ... connect to proxy.port ...
        proxy.cut()                                 # every connection reset; reset=False: closed in order
        proxy.refuse(); proxy.accept()              # new connections
        proxy.delay(to_client_s=5)
        proxy.black_hole(); proxy.heal()
        armed = proxy.arm(COMMIT, Act.CUT_AT_ANSWER, times=3)
        armed.wait(20)

A black hole drops packets, those of TCP itself included, by a filter on the relay's sockets: nothing is acknowledged,
so the peers' TCP timeouts decide, and after heal() retransmission brings what is still wanted. Needs Linux, but no
privilege.

An armed text is looked for in what clients send, also across the borders of what arrives at once. One thread owns all
connections; commands are carried out on it, so that they have taken effect when they return.
"""

import collections
import ctypes
import enum
import errno
import select
import socket
import struct
import threading
import time

from .process import StackError

CHUNK = 64 * 1024
QUEUE_MAX = 1 << 20  # bytes on their way in one direction, beyond which the sender is left waiting
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close sends RST

# On the wire to PostgreSQL: Bind of the prepared statement `commit`, which ends a batch; Parse of an unnamed COMMIT,
# by which the keeper ends its transactions; and the end of the answer to either, ReadyForQuery outside a transaction.
BATCH_COMMIT = b"\0commit\0"
KEEPER_COMMIT = b"P\0\0\0\x0e\0COMMIT\0"
PG_READY = b"Z\0\0\0\x05I"


class Act(enum.Enum):
    """What becomes of a connection on which an armed text comes by."""

    CUT_BEFORE = enum.auto()  # the server never sees the end of the text: reset
    CUT_AT_ANSWER = enum.auto()  # passed on; the answer, up to `answer`, is dropped, then reset
    LOSE_BEFORE = enum.auto()  # the connection becomes a black hole before the text is passed on
    LOSE_AFTER = enum.auto()  # the same behind it
    HOLD = enum.auto()  # the text and all behind it wait `hold_s`, and arrive although the client may be gone
    CUT_AND_HOLD = enum.auto()  # the same, the client being reset at once
    HOLD_ANSWER = enum.auto()  # passed on; whatever the server says waits `hold_s`


class Armed:
    """An order to act on a text, `times` times."""

    def __init__(self, text, act, times, hold_s, answer):
        self.text, self.act, self.hold_s, self.answer = text, act, hold_s, answer
        self.left = times
        self.fired = 0
        self._changed = threading.Condition()

    def fire(self):
        with self._changed:
            self.fired += 1
            self._changed.notify_all()

    def wait(self, limit_s, times=1):
        """Waits until it was carried out that often."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.fired >= times, limit_s):
                raise StackError(f"{self.act.name} at {self.text!r}: {self.fired} of {times} times within {limit_s} s")


def _close(one, reset):
    if one.fileno() < 0:
        return
    if reset:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    one.close()


class _Pipe:
    """One direction of a connection."""

    def __init__(self, source, sink):
        self.source, self.sink = source, sink
        self.queue = collections.deque()  # (when due, bytes)
        self.size = 0
        self.held_until = 0
        self.ended = False  # no more comes from the source
        self.closed = False  # and the sink was told so, or is gone

    def put(self, data, due):
        if data and not self.closed:
            self.queue.append((max(due, self.held_until), data))
            self.size += len(data)

    def due(self):
        return self.queue[0][0] if self.queue else None

    def write(self, now):
        while self.queue and self.queue[0][0] <= now:
            due, data = self.queue[0]
            try:
                sent = self.sink.send(data)
            except BlockingIOError:
                return
            except OSError:
                self.abandon()
                return
            self.size -= sent
            if sent < len(data):
                self.queue[0] = (due, data[sent:])
                return
            self.queue.popleft()
        if self.ended and not self.queue and not self.closed:
            self.closed = True
            try:
                self.sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass

    def abandon(self):
        """The sink takes no more: what comes is thrown away."""
        self.queue.clear()
        self.size = 0
        self.closed = True


class _Link:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, client, server):
        self.client, self.server = client, server
        self.up, self.down = _Pipe(client, server), _Pipe(server, client)
        self.tail = b""  # the end of what came up, for texts in two pieces
        self.dropping = None  # the Armed whose answer is being dropped
        self.dropped = b""
        self.after_flush = None  # what happens once all before it has gone up
        self.lost = False

    def sockets(self):
        return self.client, self.server

    def over(self):
        return self.up.closed and self.down.ended and not self.down.queue

    def lose_client(self):
        """Resets the client; what it said before still goes up."""
        self.up.ended = True
        self.down.abandon()
        _close(self.client, True)

    def close(self, reset):
        for one in self.sockets():
            _close(one, reset)


def _drop_packets(one):
    """Attaches a classic BPF program that keeps 0 bytes of every packet."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))


def _pass_packets(one):
    try:
        one.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


class Proxy:
    def __init__(self, server_port, port=0):
        self.server_port = server_port
        self.connections = 0  # accepted so far
        self._delay_s = {"up": 0, "down": 0}
        self._links = []
        self._armed = []
        self._dropping_new = False
        self._orders = collections.deque()
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        # Bound to the number itself: a port that the kernel chose would be let go when the listener is shut down.
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            self.port = probe.getsockname()[1]
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(128)
        self._listener.setblocking(False)
        self._listening = True
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if not self._stopping:
            self._do(self._stop)
            self._thread.join()
            self._wake.close()
            self._woken.close()

    # commands

    def redirect(self, server_port):
        """New connections go to another server from now on."""
        self._do(lambda: setattr(self, "server_port", server_port))

    def cut(self, reset=True):
        """Ends every connection, by RST or by FIN. Returns how many there were."""
        return self._do(lambda: self._cut(list(self._links), reset))

    def refuse(self):
        """New connections are refused, as by a host where nobody listens."""
        self._do(lambda: self._listen(False))

    def accept(self):
        self._do(lambda: self._listen(True))

    def gone(self):
        """No server any more: nothing listens, and who was connected is reset."""
        self.refuse()
        self.cut()

    def delay(self, to_server_s=0, to_client_s=0):
        """From now on everything takes that much longer."""
        self._do(lambda: self._delay_s.update(up=to_server_s, down=to_client_s))

    def black_hole(self, existing=True, new=True):
        """Packets of existing connections, of new ones, or of both are dropped."""
        self._do(lambda: self._black_hole(existing, new))

    def release(self):
        """What is held goes its way."""
        self._do(self._release)

    def heal(self):
        """Ends refusal, delays and black holes; what is armed stays armed, what is held is held."""
        self._do(self._heal)

    def arm(self, text, act, times=1, hold_s=0, answer=PG_READY):
        """Acts on the next `times` sights of the text in what clients send. Returns the Armed."""
        armed = Armed(text, act, times, hold_s, answer)
        self._do(lambda: self._armed.append(armed))
        return armed

    def disarm(self):
        self._do(self._armed.clear)

    def open_connections(self):
        return self._do(lambda: len(self._links))

    # the thread

    def _do(self, order):
        done = threading.Event()
        result = []

        def carry_out():
            try:
                result.append((order(), None))
            except BaseException as error:
                result.append((None, error))
            done.set()

        self._orders.append(carry_out)
        self._wake.send(b"!")
        while not done.wait(0.5):
            if not self._thread.is_alive():
                raise StackError("the proxy's thread is gone")
        value, error = result[0]
        if error:
            raise error
        return value

    def _stop(self):
        self._stopping = True

    def _run(self):
        try:
            while not self._stopping:
                self._turn()
        finally:
            self._cut(list(self._links), True)
            self._listener.close()

    def _turn(self):
        now = time.monotonic()
        ready = self._poll(now)
        while self._orders:
            self._orders.popleft()()
        if self._listener.fileno() in ready and self._listening:
            self._accept_one()
        now = time.monotonic()
        for link in list(self._links):
            if link.lost:
                continue
            for pipe in (link.up, link.down):
                if link in self._links and not link.lost and pipe.source.fileno() in ready:
                    self._read(link, pipe, now)
            if link in self._links and not link.lost:
                self._write(link, now)

    def _poll(self, now):
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        if self._listening and not self._dropping_new:
            poll.register(self._listener, select.POLLIN)
        timeout_s = 10.0
        wanted = {}
        for link in self._links:
            if link.lost:
                continue
            for pipe in (link.up, link.down):
                if not pipe.ended and pipe.size < QUEUE_MAX:
                    wanted[pipe.source] = wanted.get(pipe.source, 0) | select.POLLIN
                if pipe.queue:
                    if pipe.due() <= now:
                        wanted[pipe.sink] = wanted.get(pipe.sink, 0) | select.POLLOUT
                    else:
                        timeout_s = min(timeout_s, pipe.due() - now)
        for one, events in wanted.items():
            poll.register(one, events)
        found = {fd for fd, _ in poll.poll(timeout_s * 1000 + 1)}
        if self._woken.fileno() in found:
            self._woken.recv(4096)
        return found

    def _accept_one(self):
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        self.connections += 1
        try:
            server = socket.create_connection(("127.0.0.1", self.server_port), timeout=2)
        except OSError:
            _close(client, True)
            return
        for one in (client, server):
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._links.append(_Link(client, server))

    def _read(self, link, pipe, now):
        if pipe.ended or pipe.size >= QUEUE_MAX:
            return
        try:
            data = pipe.source.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            pipe.ended = True
            return
        if pipe is link.up:
            self._came_up(link, data, now)
        elif link.dropping:
            self._drop_answer(link, data)
        else:
            pipe.put(data, now + self._delay_s["down"])

    def _came_up(self, link, data, now):
        due = now + self._delay_s["up"]
        if link.after_flush:
            return  # behind the text that ends this connection
        armed, start = self._sight(link, data)
        if not armed:
            link.up.put(data, due)
            return
        act = armed.act
        if act in (Act.HOLD, Act.CUT_AND_HOLD):
            link.up.put(data[:start], due)
            link.up.held_until = now + armed.hold_s
            link.up.put(data[start:], due)
            if act is Act.CUT_AND_HOLD:
                link.lose_client()
            armed.fire()
        elif act is Act.HOLD_ANSWER:
            link.up.put(data, due)
            link.down.held_until = now + armed.hold_s
            armed.fire()
        elif act is Act.CUT_AT_ANSWER:
            link.up.put(data, due)
            link.dropping, link.dropped = armed, b""
        else:
            link.up.put(data if act is Act.LOSE_AFTER else data[:start], due)
            link.after_flush = armed

    def _sight(self, link, data):
        """(the Armed whose text is complete now, where in `data` it begins), or (None, 0)."""
        for armed in self._armed:
            if armed.left <= 0:
                continue
            tail = link.tail[-(len(armed.text) - 1):] if len(armed.text) > 1 else b""
            at = (tail + data).find(armed.text)
            if at >= 0:
                armed.left -= 1
                link.tail = b""
                return armed, max(0, at - len(tail))
        link.tail = (link.tail + data)[-256:]
        return None, 0

    def _drop_answer(self, link, data):
        link.dropped = (link.dropped + data)[-CHUNK:]
        if link.dropping.answer in link.dropped:
            armed = link.dropping
            self._cut([link], True)
            armed.fire()

    def _write(self, link, now):
        for pipe in (link.up, link.down):
            pipe.write(now)
        if link.after_flush and not link.up.queue:
            armed, link.after_flush = link.after_flush, None
            if armed.act is Act.CUT_BEFORE:
                self._cut([link], True)
            else:
                self._lose(link)
            armed.fire()
        elif link.over():
            self._cut([link], False)

    def _cut(self, links, reset):
        for link in links:
            link.close(reset)
            self._links.remove(link)
        return len(links)

    def _listen(self, listening):
        if listening == self._listening:
            return
        if listening:
            self._listener.listen(128)
        else:
            # On Linux this ends listening and leaves the socket bound, so nobody else gets the port.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listening = listening

    @staticmethod
    def _lose(link):
        link.lost = True
        for one in link.sockets():
            if one.fileno() >= 0:
                _drop_packets(one)

    def _black_hole(self, existing, new):
        if existing:
            for link in self._links:
                self._lose(link)
        if new and not self._dropping_new:
            self._dropping_new = True
            _drop_packets(self._listener)

    def _release(self):
        for link in self._links:
            for pipe in (link.up, link.down):
                pipe.held_until = 0
                pipe.queue = collections.deque((0, data) for _, data in pipe.queue)

    def _heal(self):
        self._delay_s.update(up=0, down=0)
        self._listen(True)
        if self._dropping_new:
            self._dropping_new = False
            _pass_packets(self._listener)
        for link in self._links:
            if not link.lost:
                continue
            link.lost = False
            for one in link.sockets():
                if one.fileno() < 0:
                    continue
                _pass_packets(one)
                # A peer that gave up meanwhile said so into the black hole: its kernel is asked again.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
                    one.setsockopt(socket.IPPROTO_TCP, option, 1)
