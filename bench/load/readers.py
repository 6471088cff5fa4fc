"""Many sockets that read, in one process: it gets `Sockets` on its standard input, says when all are open, and at the
end writes `Arrivals`.

    python -m bench.load.readers

A thousand readers of the usual kind would take more of the machine than the server does. These count the texts of each
socket, note the moment at which the last of them had the n-th one, and keep the texts of the first socket alone.
"""

import pickle
import select
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.load.plan import READY, Arrivals, Sockets

CHUNK = 2**16
PATIENCE = 120.0
# No text of HIVE's has an end of the stream in it: it's closed with a code instead.
TEXT, CLOSE, PING, PONG = 0x81, 0x88, 0x89, 0x8A


@dataclass(slots=True)
class Reader:
    number: int
    socket: socket.socket
    rest: bytes = b""
    count: int = 0


@dataclass(slots=True)
class Board:
    """Which text has reached how many sockets."""

    sockets: int
    texts: int
    reached: list[int] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reached = [0] * self.texts

    def note(self, reader: Reader, texts: int, now: float) -> None:
        if reader.count + texts > self.texts:
            raise AssertionError(f"more than {self.texts} texts came")
        for number in range(reader.count, reader.count + texts):
            reached = self.reached[number] = self.reached[number] + 1
            if reached == 1:
                self.first.append(now)
            if reached == self.sockets:
                self.last.append(now)
        reader.count += texts

    @property
    def is_full(self) -> bool:
        return len(self.last) == self.texts


def opened(port: int, path: str) -> socket.socket:
    """A socket after its handshake."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    )
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            break
        head += byte
    if not head.startswith(b"HTTP/1.1 101"):
        raise AssertionError(f"no socket at {port}: {head.decode(errors='replace')}")
    connection.settimeout(None)
    return connection


def frames(data: bytes) -> Iterator[tuple[int, int, int]]:
    """First byte, start and end of the payload of each whole frame. A server's frames are not masked."""
    start, size = 0, len(data)
    while start + 2 <= size:
        length, head = data[start + 1], 2
        if length == 126:
            length, head = int.from_bytes(data[start + 2 : start + 4]), 4
        elif length == 127:
            length, head = int.from_bytes(data[start + 2 : start + 10]), 10
        end = start + head + length
        if start + head > size or end > size:
            return
        yield data[start], start + head, end
        start = end


class Readers:
    def __init__(self, plan: Sockets) -> None:
        self._plan = plan
        self._epoll = select.epoll()
        self._readers: dict[int, Reader] = {}
        # One for all, as each text is looked at before the next one is read.
        self._buffer = bytearray(CHUNK)
        self._texts: list[str] = []
        self._board = Board(len(plan.places), plan.texts)
        self._is_counting = False

    def open_all(self) -> None:
        for number, (port, path) in enumerate(self._plan.places):
            connection = opened(port, path)
            self._readers[connection.fileno()] = Reader(number, connection)
            self._epoll.register(connection, select.EPOLLIN)
            # The server's queues for those who are there are bounded, and more come all the time.
            if number % 20 == 19:
                self._read(0)

    def until_quiet(self) -> None:
        while self._read(self._plan.quiet):
            pass

    def count(self) -> Arrivals:
        self._is_counting = True
        deadline = time.monotonic() + PATIENCE
        while not self._board.is_full:
            self._read(1.0)
            if time.monotonic() > deadline:
                reached = self._board.reached
                raise AssertionError(f"after {PATIENCE} s some texts are missing; sockets that have each: {reached}")
        return Arrivals(self._board.first, self._board.last, self._texts, time.process_time())

    def _read(self, patience: float) -> bool:
        """Whether any text came."""
        any_came = False
        for descriptor, _ in self._epoll.poll(patience):
            reader = self._readers[descriptor]
            size = reader.socket.recv_into(self._buffer)
            if not size:
                raise AssertionError(f"socket {reader.number} was closed")
            any_came |= self._take(reader, bytes(memoryview(self._buffer)[:size])) > 0
        return any_came

    def _take(self, reader: Reader, data: bytes) -> int:
        """How many texts there were in it."""
        if reader.rest:
            data = reader.rest + data
        end = texts = 0
        for kind, start, end in frames(data):  # The last end is needed.
            if kind == TEXT:
                texts += 1
                if reader.number == 0 and self._is_counting:
                    self._texts.append(data[start:end].decode())
            else:
                _answer(reader.socket, reader.number, kind, data[start:end])
        reader.rest = data[end:]
        if self._is_counting and texts:
            self._board.note(reader, texts, time.time())
        return texts


def _answer(connection: socket.socket, number: int, kind: int, payload: bytes) -> None:
    if kind == PING:
        # A client's frames are masked; with zeros, the payload stays as it is.
        connection.sendall(bytes([PONG, 0x80 | len(payload), 0, 0, 0, 0]) + payload)
    elif kind == CLOSE:
        raise AssertionError(f"socket {number} was closed with {int.from_bytes(payload[:2])}")


def main() -> None:
    plan: Sockets = pickle.load(sys.stdin.buffer)
    readers = Readers(plan)
    readers.open_all()
    readers.until_quiet()
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    pickle.dump(readers.count(), sys.stdout.buffer)


if __name__ == "__main__":
    main()
