"""What the clients' programs are told, and what they tell."""

from collections.abc import Sequence
from dataclasses import dataclass, field

# What the readers say when all sockets are open.
READY = b"ready\n"


@dataclass(frozen=True, slots=True)
class Request:
    """What goes over the wire, and how its answer is known to be right.

    The body must have `marker` in it exactly `count` times: an id once, say, or what each of 50 rows has.
    """

    content: bytes
    status: int = 200
    marker: bytes = b""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Load:
    """Each connection goes round and round through its own share of the requests, one after the other.

    What is answered during the warm-up isn't counted. Without `per_second` a request follows upon an answer; with it
    that many are sent in all, evenly, as long as the server keeps up. With `once`, no request is sent twice, and the
    end is when all are answered.
    """

    ports: Sequence[int]
    requests: Sequence[Request]
    connections: int = 32
    seconds: float = 4.0
    warm_up: float = 1.0
    per_second: float | None = None
    niceness: int = 0
    once: bool = False


@dataclass(frozen=True, slots=True)
class Answers:
    """`counted` came within `seconds`; `all` includes the warm-up. `wrong` are some that are not as they have to be."""

    counted: int
    seconds: float
    p50_ms: float
    p99_ms: float
    all: int
    cpu_seconds: float
    wrong: Sequence[str] = field(default_factory=tuple)

    @property
    def per_second(self) -> float:
        return self.counted / self.seconds


@dataclass(frozen=True, slots=True)
class Sockets:
    """Where to open one socket each: a port and a path. `texts` is how many each is to get, after `quiet` seconds in
    which none came: there is talk of who is online when so many come."""

    places: Sequence[tuple[int, str]]
    texts: int
    quiet: float = 0.5


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When the first and the last of all sockets had each text, by this machine's clock, and the texts."""

    first: Sequence[float]
    last: Sequence[float]
    texts: Sequence[str]
    cpu_seconds: float


def get(path: str, *, token: str = "", marker: str = "", count: int = 1) -> Request:
    return Request(_head("GET", path, token) + b"\r\n", 200, marker.encode(), count)


def send(method: str, path: str, body: bytes, *, token: str = "", status: int = 200, marker: str = "") -> Request:
    fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return Request(_head(method, path, token) + fields + body, status, marker.encode())


def _head(method: str, path: str, token: str) -> bytes:
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{authorization}".encode()
