"""A stranger's end of connections, and what becomes of them. It uses nothing of HIVE."""

import base64
import itertools
import json
import os
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any, Self

HANDSHAKE = (
    "GET /ws{query} HTTP/1.1\r\nHost: hive\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
)
CLOSE_FRAME = 0x88
STUCK_SECONDS = 0.25
ANSWER_SECONDS = 30
# How a connection can end besides with a status or a close code. OPEN is the end of the attack itself.
OPEN, CLOSED, REFUSED, RESET = "open", "closed", "refused", "reset"
PAUSE_SECONDS = 0.02


@dataclass(frozen=True)
class Target:
    """Whom the attack is for, and where from. `token` and `email` are those of a user who attacks."""

    host: str
    port: int
    source: str
    token: str
    email: str


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


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


class Stranger:
    """One connection. `end` is a status, a socket's close code, CLOSED, or None as long as it's open."""

    def __init__(self, course: Course, *, window: int | None = None) -> None:
        self._course = course
        self.end: str | None = None
        self._read = b""
        self._socket = socket.socket()
        if window is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        try:
            self._socket.settimeout(2)
            self._socket.bind((course.target.source, 0))
            self._socket.connect((course.target.host, course.target.port))
            self._socket.setblocking(False)
        except OSError:
            self.end = REFUSED

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.look()
        self._course.note(self.end or OPEN)
        self._socket.close()

    def say_no_more(self) -> None:
        """Close its own half of the connection."""
        if self.end is None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close it without a word."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.end = self.end or RESET

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
                self.end = self.end or CLOSED
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
                self.end = self._meaning() or CLOSED
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


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0) -> bytes:
    """A masked frame, with the mask that changes nothing."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size <= 0xFFFF:
        length = struct.pack("!BH", 0xFE, size)
    else:
        length = struct.pack("!BQ", 0xFF, size)
    return bytes([opcode | (0x80 if fin else 0) | reserved]) + length + bytes(4) + payload


def flood_sockets(course: Course, query: str, pieces: Callable[[], Iterator[bytes]], **options: Any) -> None:
    """Send the pieces by four sockets, each made anew when it's ended."""
    flood(course, handshake(query), pieces, waits_for_answer=True, **options)


def flood_sockets_of_user(course: Course, pieces: Callable[[], Iterator[bytes]], **options: Any) -> None:
    flood_sockets(course, f"?token={course.target.token}", pieces, **options)


def once(*pieces: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter(pieces)


def flood(
    course: Course,
    opening: bytes,
    pieces: Callable[[], Iterator[bytes]],
    *,
    connections: int = 4,
    waits_for_answer: bool = False,
    then: Callable[[Stranger], None] = lambda _stranger: None,
) -> None:
    """Send the pieces by so many connections at once, each made anew when it's ended. `then` is what they do last."""

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
                then(stranger)
                while stranger.end is None and not course.is_over:
                    time.sleep(PAUSE_SECONDS)
                    stranger.look()
            time.sleep(PAUSE_SECONDS)

    _at_once(run, connections)


def ask(course: Course, requests: Callable[[int], Request], *, connections: int = 6) -> None:
    """Ask by so many connections at once, as fast as the answers come; each one's status is an end."""
    numbers = itertools.count()

    def run() -> None:
        target = course.target
        connection = HTTPConnection(target.host, target.port, timeout=ANSWER_SECONDS, source_address=(target.source, 0))
        while not course.is_over:
            request = requests(next(numbers))
            try:
                connection.request(request.method, request.path, request.body, request.headers)
                answer = connection.getresponse()
                answer.read()
                course.note(str(answer.status))
            except (OSError, HTTPException) as error:
                course.note(REFUSED if isinstance(error, ConnectionRefusedError) else CLOSED)
                connection.close()
        connection.close()

    _at_once(run, connections)


def as_user(course: Course, method: str, path: str, body: object = None, **headers: str) -> Request:
    """A request of the user's, with a body of JSON if there is one."""
    content = None if body is None else json.dumps(body).encode()
    own = {"Authorization": f"Bearer {course.target.token}", "Content-Type": "application/json"}
    return Request(method, f"/api/v1{path}", content, own | headers)


def _at_once(run: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def endless(piece: bytes, *, at_once: int = 64 * 1024) -> Callable[[], Iterator[bytes]]:
    """One text again and again, some of it with each call of the system."""
    return lambda: itertools.repeat(piece * max(at_once // len(piece), 1))


def crowd(
    course: Course, opening: bytes, *, count: int, trickle: bytes = b"", reads: bool = True, window: int | None = None
) -> None:
    """Keep so many connections as long as they last, each of which says a little more every second."""
    strangers = []
    for _ in range(count):
        stranger = Stranger(course, window=window)
        if opening:
            stranger.send(opening)
        strangers.append(stranger)
    while not course.is_over:
        for stranger in strangers:
            if reads:
                stranger.look()
            if trickle and stranger.end is None:
                stranger.send(trickle)
        time.sleep(min(1.0, max(course.until - time.monotonic(), 0)))
    for stranger in strangers:
        with stranger:
            pass
