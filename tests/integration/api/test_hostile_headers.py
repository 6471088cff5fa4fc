"""Every header that something here reads, with what nobody would write: no fault, and no answer but a proper one."""

import random
from collections.abc import Iterator, Mapping
from ipaddress import ip_network

import httpx2
import pytest
from starlette.types import Message
from starlette.websockets import WebSocket

from app.limits.address import client_of
from app.models import User
from app.origins import Origins
from app.websockets.conversation import _is_origin_allowed
from tests.conftest import ClientAs
from tests.utils.wire import serving

# Read by HIVE, by what it's built on, or handed on to a log.
HEADERS = (
    "Accept",
    "Accept-Encoding",
    "Access-Control-Request-Headers",
    "Access-Control-Request-Method",
    "Authorization",
    "Content-Encoding",
    "Content-Type",
    "Cookie",
    "Expect",
    "Forwarded",
    "Hive-Lease-Token",
    "Host",
    "Idempotency-Key",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "Last-Event-ID",
    "Origin",
    "Range",
    "Traceparent",
    "User-Agent",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Request-ID",
)
SCRAPS = (
    *('"', '"7"', "W/", '"7', "*", ",", ";", "=", ":", "[", "]", "[::1", "/", "\\", "%", "%00", "%ff", "{", "}", "("),
    *("Bearer", "Bearer ", "bearer\t", "Basic", "Basic =", "a.b.c", "..", "eyJhbGciOiJub25lIn0.e30.", "hive_"),
    *("bytes=0-", "bytes=-1", "bytes=9-1", "q=", "q=nan", ";q=1e999", "gzip", "application/json", "charset="),
    *("multipart/", "127.0.0.1", "999.1.1.1", "::1%eth0", "for=", "unknown", "http://", "//", "http://[", "null"),
    *("-1", "0", "9" * 40, "1e400", "NaN", "\t", " ", "  ", "\x7f", "\x80", "\xff", "\xc3\xa9", "\xed\xa0\x80"),
    *("\xf0\x9f\x98\x80", "\u0663", "\u00b2"),
)
VALUES_OF_EACH = 12
# Seconds of a page that waits would be spent for nothing.
REQUESTS = (
    ("GET", "/tasks"),
    ("GET", "/users/me"),
    ("GET", "/events?limit=1"),
    ("POST", "/tasks"),
    ("PATCH", "/users/me"),
    ("OPTIONS", "/tasks"),
    ("POST", "/auth/login"),
    ("GET", "/health"),
)


def values(name: str) -> Iterator[str]:
    """Texts for a header, the same in each run."""
    generator = random.Random(name)
    yield ""
    for _ in range(VALUES_OF_EACH):
        yield "".join(generator.choices(SCRAPS, k=generator.randint(1, 6)))
    yield "," * 4000
    yield '"' + "\\" * 4000
    yield generator.choice(SCRAPS) * 500


def encoded(text: str) -> bytes:
    return text.encode("latin-1") if text.isascii() or max(text) <= "\xff" else text.encode()


@pytest.mark.parametrize("name", HEADERS)
async def test_no_value_of_a_header_is_a_fault(name: str, client_as: ClientAs, user: User) -> None:
    client = await client_as(user)
    generator = random.Random(name)

    for value in values(name):
        method, path = generator.choice(REQUESTS)
        given = {"Authorization": client.headers["Authorization"], "Content-Type": "application/json"}
        answer = await client.request(method, path, headers=with_header(given, name, value), content=b"{}")

        assert answer.status_code < 500, f"{method} {path} with {name}: {value!r}"
        if answer.status_code >= 400 and path != "/health":
            assert_proper(answer)


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded"])
def test_a_proxy_may_say_what_it_likes_of_its_client(name: str) -> None:
    trusted = (ip_network("127.0.0.0/8"), "local")
    for value in values(name):
        headers = [(name.lower().encode(), encoded(value))]
        for client in (("127.0.0.1", 1), None):
            assert client_of({"client": client, "headers": headers}, trusted)


@pytest.mark.parametrize("name", ["Origin", "Host"])
def test_a_socket_may_come_from_anywhere_and_is_refused(name: str) -> None:
    for value in values(name):
        headers = {b"origin": b"http://board.example", b"host": b"hive.example"}
        headers[name.lower().encode()] = encoded(value)
        scope = {"type": "websocket", "headers": list(headers.items())}
        websocket = WebSocket(scope, receive=never, send=never_sent)

        assert _is_origin_allowed(websocket, Origins(frozenset(), with_local=True)) in {True, False}


async def never() -> Message:
    raise AssertionError("nobody asks")


async def never_sent(_message: Message) -> None:
    raise AssertionError("nobody answers")


@pytest.mark.parametrize(
    "name",
    [
        *("Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"),
        *("Connection", "Content-Length", "Transfer-Encoding", "Upgrade"),
    ],
)
async def test_every_handshake_is_answered(name: str) -> None:
    async with serving() as site:
        for value in values(name):
            caller = await site.call()
            headers = {
                "Host": "hive",
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            } | {name: value}
            lines = b"".join(key.encode() + b": " + encoded(text) + b"\r\n" for key, text in headers.items())

            await caller.say(b"GET /ws HTTP/1.1\r\n" + lines + b"\r\n")

            assert await caller.status() in {101, 200, 400, 414, 426, 431}, value


def with_header(given: Mapping[str, str], name: str, value: str) -> list[tuple[bytes, bytes]]:
    kept = {known: text for known, text in given.items() if known.lower() != name.lower()}
    return [*((known.encode(), text.encode()) for known, text in kept.items()), (name.encode(), encoded(value))]


def assert_proper(answer: httpx2.Response) -> None:
    kind = answer.headers.get("content-type", "")
    assert kind.startswith(("application/problem+json", "application/json", "text/plain")), (kind, answer.text[:200])
