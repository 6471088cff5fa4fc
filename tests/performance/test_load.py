"""That the benchmark's clients count right, and notice what is wrong."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, broadcast, serve

from bench.load.generator import shares
from bench.load.plan import Load, Request, Sockets, get, send
from bench.load.programs import put_under
from bench.load.reading import arrivals_of
from tests.utils.test_utils import PATIENCE

Answer = Callable[[bytes], bytes]


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def server(answer_to: Answer) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Answers in two pieces; its port, and the first lines of all requests that have come."""
    seen: list[bytes] = []

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                line = head.partition(b"\r\n")[0]
                seen.append(line)
                content = answer_to(line)
                writer.write(content[:10])
                await writer.drain()
                writer.write(content[10:])
        except asyncio.IncompleteReadError:
            writer.close()

    async with await asyncio.start_server(serve_one, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1], seen


def load(port: int, *requests: Request, once: bool = True, per_second: float | None = None) -> Load:
    return Load(
        (port,), requests, connections=2, seconds=0.3, warm_up=0.1 * (not once), once=once, per_second=per_second
    )


async def test_every_answer_is_counted_but_for_those_of_the_warm_up() -> None:
    async with server(lambda _: answer(b'{"id":"1"}')) as (port, seen):
        answers = await put_under(load(port, get("/1", marker='"1"'), once=False))

    assert answers.all == len(seen)
    assert 0 < answers.counted < answers.all
    assert 0 < answers.p50_ms <= answers.p99_ms


async def test_each_request_is_sent_once_if_that_is_wanted() -> None:
    requests = [get(f"/{number}") for number in range(6)]

    async with server(lambda _: answer(b"")) as (port, seen):
        answers = await put_under(load(port, *requests))

    assert sorted(seen) == [f"GET /{number} HTTP/1.1".encode() for number in range(6)]
    assert answers.all == 6


async def test_no_more_are_sent_than_wanted_within_a_time() -> None:
    started = time.perf_counter()

    async with server(lambda _: answer(b"")) as (port, _):
        await put_under(load(port, *[get("/")] * 6, per_second=20))

    # The first is sent at once, and the others a twentieth of a second apart.
    assert time.perf_counter() - started >= 5 / 20


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (answer(b'{"id":"2"}'), get("/1", marker='"1"')),
        (answer(b'["1","1"]'), get("/1", marker='"1"')),
        (answer(b'["1"]'), get("/1", marker='"1"', count=2)),
        (answer(b'"1"', "503 Service Unavailable"), get("/1", marker='"1"')),
        (answer(b""), send("POST", "/1", b"", status=201)),
    ],
    ids=["another id", "too many rows", "too few rows", "an error", "another status"],
)
async def test_a_wrong_answer_is_a_failure_that_quotes_it(content: bytes, expected: Request) -> None:
    async with server(lambda _: content) as (port, _):
        with pytest.raises(AssertionError, match=r"wrong answers:\n.* /1 HTTP/1.1: HTTP/1.1 "):
            await put_under(load(port, expected))


def test_requests_are_shared_out_in_order() -> None:
    requests = [get(f"/{number}") for number in range(5)]

    assert shares(requests, 2) == [requests[:2], requests[2:4]]
    assert shares(requests[:1], 2) == [requests[:1], requests[:1]]


@asynccontextmanager
async def socket_server(greeting: str = "") -> AsyncIterator[tuple[int, set[ServerConnection]]]:
    present: set[ServerConnection] = set()

    async def hold(socket: ServerConnection) -> None:
        present.add(socket)
        if greeting:
            await socket.send(greeting)
        await socket.wait_closed()

    async with serve(hold, "127.0.0.1", 0, ping_interval=0.1, ping_timeout=PATIENCE) as serving:
        yield next(iter(serving.sockets)).getsockname()[1], present


async def test_readers_tell_when_the_last_of_them_has_each_text() -> None:
    texts = ["one", "two" * 100, "three" * 20_000]

    async with socket_server("what is said before does not count") as (port, present):

        async def happening() -> None:
            for text in texts:
                broadcast(present, text)

        sockets = Sockets([(port, "/")] * 5, texts=len(texts), quiet=0.2)
        arrivals = await arrivals_of(sockets, happening)

    assert list(arrivals.texts) == texts
    assert len(arrivals.first) == len(arrivals.last) == 3
    assert all(first <= last for first, last in zip(arrivals.first, arrivals.last, strict=True))


async def test_a_text_has_arrived_when_the_last_reader_has_it() -> None:
    moments: list[float] = []

    async with socket_server() as (port, present):

        async def happening() -> None:
            late, *others = present
            broadcast(others, "one")
            # An answer to a ping comes after the text before it was written.
            await asyncio.gather(*[await other.ping() for other in others])
            moments.append(time.time())
            await late.send("one")

        arrivals = await arrivals_of(Sockets([(port, "/")] * 3, texts=1, quiet=0.1), happening)

    assert arrivals.first[0] < moments[0] < arrivals.last[0]


async def test_a_reader_that_is_closed_is_a_failure() -> None:
    async with socket_server() as (port, present):

        async def happening() -> None:
            await next(iter(present)).close()

        with pytest.raises(AssertionError, match="ended with 1"):
            await arrivals_of(Sockets([(port, "/")] * 2, texts=1, quiet=0.1), happening)
