"""What a connection may send before anybody has read a request, and how fast."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from app.websockets.uvicorn_protocol import TRY_AGAIN_LATER, FrameProtocol
from app.wire import connections, http_protocol
from app.wire.bounds import IDLE_SECONDS, MAX_DRAINED_BYTES, MAX_HEAD_BYTES, MAX_HEADERS
from app.wire.endings import Ending
from app.wire.http_protocol import IS_GONE
from tests.utils.test_utils import wait_until_async
from tests.utils.wire import Caller, Site, serving

GET = b"GET / HTTP/1.1\r\nHost: hive\r\n"
POST = b"POST / HTTP/1.1\r\nHost: hive\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
MIB = 1024 * 1024
# What the kernel may have taken of a sender before it learns that nobody reads on.
IN_FLIGHT = 16 * MIB


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serving() as site:
        yield site


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for next to nothing."""
    monkeypatch.setattr(connections, "CHECK_SECONDS", 0.02)
    for name in ("HEAD_SECONDS", "BODY_RESERVE_SECONDS", "DRAIN_SECONDS", "TAKE_RESERVE_SECONDS"):
        monkeypatch.setattr(http_protocol, name, 0.1)


async def served(site: Site) -> None:
    """Somebody else is served."""
    other = await site.call()
    await other.say(GET + b"\r\n")
    assert await other.status() == 200
    other.writer.close()


async def test_a_request_knows_whether_its_client_has_gone(site: Site) -> None:
    site.app.may_read.clear()
    caller = await site.call()
    await caller.say(GET + b"\r\n")

    async def has_come() -> bool:
        return bool(site.app.requests)

    await wait_until_async(has_come, what="the request")
    [scope] = site.app.requests
    assert not scope[IS_GONE]()
    caller.writer.transport.abort()

    async def has_gone() -> bool:
        return bool(scope[IS_GONE]())

    await wait_until_async(has_gone, what="the end of the connection")
    site.app.may_read.set()


# Headers


async def test_as_many_headers_as_allowed_are_read(site: Site) -> None:
    caller = await site.call()

    await caller.say(GET + b"".join(b"x-%d: y\r\n" % number for number in range(MAX_HEADERS - 1)) + b"\r\n")

    assert await caller.status() == 200


@pytest.mark.parametrize("end", [b"", b"\r\n"], ids=["without end", "whole"])
@pytest.mark.parametrize("length", [1, 200], ids=["short", "long"])
async def test_too_many_headers_are_431_and_closed(site: Site, end: bytes, length: int) -> None:
    caller = await site.call()
    headers = b"".join(b"x-%d: %s\r\n" % (number, b"y" * length) for number in range(MAX_HEADERS + 50))

    await caller.say(GET + headers + end)

    status, kind, body = await caller.answer()
    assert (status, kind) == (431, "application/problem+json")
    assert b'"headers_too_large"' in body
    assert await caller.rest() == b""
    assert not site.app.requests


@pytest.mark.parametrize(
    ("opening", "endless"),
    [
        (GET + b"x: ", b"y" * 65536),
        (GET + b"x: y", b"\r\n yyyyyyyyyyyyyyyyyyy" * 3000),
        (GET, b"y" * 65536),
        (b"GET /?", b"y" * 65536),
        (b"", b"\r\n" * 30_000),
        (GET, b"a: b\r\n" * 10_000),
    ],
    ids=["value", "folded value", "name", "address", "blank lines", "headers"],
)
async def test_what_has_no_end_is_not_read_on(site: Site, opening: bytes, endless: bytes) -> None:
    caller = await site.call()
    await caller.say(opening)

    sent = await caller.say_until_closed(endless)

    assert sent < MAX_HEAD_BYTES + IN_FLIGHT
    assert not site.app.requests
    await served(site)


@pytest.mark.parametrize("end", [b"", b" HTTP/1.1\r\nHost: hive\r\n\r\n"], ids=["without end", "whole"])
async def test_a_long_address_is_414(site: Site, end: bytes) -> None:
    caller = await site.call()

    await caller.say(b"GET /?" + b"q" * (MAX_HEAD_BYTES - 100 if end else MAX_HEAD_BYTES + 4096) + end)

    assert await caller.status() == 414


async def test_what_is_not_http_is_a_problem(site: Site) -> None:
    caller = await site.call()

    await caller.say(b"\x16\x03\x01 hello\r\n\r\n")

    assert (await caller.answer())[:2] == (400, "application/problem+json")
    assert await caller.rest() == b""


async def test_many_that_are_not_http_are_counted_and_fill_no_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for _ in range(20):
        caller = await site.call()
        await caller.say(b"\x16\x03\x01 hello\r\n\r\n")
        assert await caller.status() == 400
    caller = await site.call()
    await caller.say(GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    assert await caller.status() == 200

    assert site.table.endings.counts[Ending.NOT_HTTP] == 20
    said = [record for record in caplog.records if record.name in {"uvicorn.error", "app.wire.endings"}]
    assert len(said) == 1


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize(
    ("opening", "trickle", "answer"),
    [(b"", b"", b""), (GET + b"x: ", b"y", b"HTTP/1.1 408 "), (b"", b"\r\n", b""), (b"G", b"", b"HTTP/1.1 408 ")],
    ids=["silent", "half a header", "blank lines", "one letter"],
)
async def test_headers_have_to_come_in_time(site: Site, opening: bytes, trickle: bytes, answer: bytes) -> None:
    caller = await site.call()
    await caller.say(opening)
    ending = asyncio.create_task(caller.rest())

    while not ending.done():
        await caller.say(trickle)
        await asyncio.sleep(0.01)

    assert (await ending).startswith(answer)
    assert bool(answer) == bool(ending.result())
    assert len(site.table) == 0


async def test_a_connection_is_kept_for_longer_than_clients_keep_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # httpx and many others let go of a connection after 5 seconds.
    assert IDLE_SECONDS == 30
    monkeypatch.setattr(http_protocol, "IDLE_SECONDS", 0.1)
    caller = await site.call()
    await caller.say(GET + b"\r\n")
    assert await caller.status() == 200

    assert await caller.rest() == b""


@pytest.mark.usefixtures("hurry")
async def test_a_connection_that_waits_for_its_answer_is_not_too_slow(site: Site) -> None:
    site.app.may_read.clear()
    caller = await site.call()
    # Some clients send a blank line after a body.
    await caller.say(POST + b"Content-Length: 1\r\n\r\n.\r\n")
    await asyncio.sleep(0.3)
    site.app.may_read.set()

    assert await caller.status() == 200


# Bodies


async def test_a_large_body_arrives_whole(site: Site) -> None:
    caller = await site.call()

    await caller.say(POST + b"Content-Length: 1000000\r\n\r\n" + b"y" * 1_000_000)

    assert (await caller.answer())[2].startswith(b"1000000 ")


async def test_a_body_in_small_chunks_arrives_whole(site: Site) -> None:
    caller = await site.call()

    await caller.say(CHUNKED + b"a\r\n0123456789\r\n" * 5000 + b"0\r\n\r\n")

    assert (await caller.answer())[2].startswith(b"50000 ")


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("head", [POST + b"Content-Length: 9999\r\n\r\n", CHUNKED + b"1;"], ids=["length", "chunk"])
async def test_a_body_that_trickles_is_408(site: Site, head: bytes) -> None:
    caller = await site.call()
    await caller.say(head)
    ending = asyncio.create_task(caller.rest())

    while not ending.done():
        await caller.say(b"y")
        await asyncio.sleep(0.01)

    assert (await ending).startswith(b"HTTP/1.1 408 ")

    async def has_noticed() -> bool:
        return site.app.disconnects == 1

    await wait_until_async(has_noticed, what="the application to see that the client is gone")


@pytest.mark.usefixtures("hurry")
async def test_a_body_that_hive_does_not_read_is_not_too_slow(site: Site) -> None:
    site.app.may_read.clear()
    caller = await site.call()
    sending = asyncio.create_task(caller.say(POST + b"Content-Length: 900000\r\n\r\n" + b"y" * 900_000))
    await asyncio.sleep(0.3)
    site.app.may_read.set()

    assert (await caller.answer())[2].startswith(b"900000 ")
    await sending


@pytest.mark.parametrize(
    ("opening", "endless"),
    [
        (CHUNKED, b"1\r\n.\r\n" * 10_000),
        (CHUNKED + b"1;", b"x" * 65536),
        (CHUNKED + b"0\r\n", b"a: b\r\n" * 10_000),
        (CHUNKED + b"0\r\na: ", b"b" * 65536),
    ],
    ids=["tiny chunks", "extension", "trailers", "one trailer"],
)
async def test_chunks_with_more_around_than_in_them_are_refused(site: Site, opening: bytes, endless: bytes) -> None:
    caller = await site.call()
    await caller.say(opening)

    sent = await caller.say_until_closed(endless)

    assert sent < IN_FLIGHT
    await served(site)


async def test_trailers_are_no_headers(site: Site) -> None:
    caller = await site.call()

    await caller.say(CHUNKED + b"1\r\n.\r\n0\r\nX-Forwarded-For: 192.0.2.1\r\nAuthorization: Bearer x\r\n\r\n")

    assert (await caller.answer())[2] == b"1 host,transfer-encoding"
    assert site.app.requests[0]["headers"] == [(b"host", b"hive"), (b"transfer-encoding", b"chunked")]


async def test_a_body_that_follows_its_answer_without_end_is_not_read_on(site: Site) -> None:
    caller = await site.call()
    await caller.say(CHUNKED.replace(b"/", b"/early", 1))
    assert await caller.status() == 401

    sent = await caller.say_until_closed(b"8000\r\n" + b"y" * 0x8000 + b"\r\n")

    assert sent < MAX_DRAINED_BYTES + IN_FLIGHT


async def test_the_connection_is_kept_when_the_rest_of_an_answered_body_comes(site: Site) -> None:
    caller = await site.call()
    await caller.say(b"POST /early HTTP/1.1\r\nHost: hive\r\nContent-Length: 200000\r\n\r\n")
    assert await caller.status() == 401

    await caller.say(b"y" * 200_000 + GET + b"\r\n")

    assert await caller.status() == 200


async def test_bodies_without_their_ends_take_a_bounded_space(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_UNFINISHED_BYTES", 500_000)
    callers = [await site.call() for _ in range(4)]

    for caller in callers:
        await caller.say(POST + b"Content-Length: 900000\r\n\r\n" + b"y" * 300_000)

    async def are_few() -> bool:
        return len(site.table) <= 2 and site.table.endings.counts[Ending.EVICTED_BODY] >= 2

    await wait_until_async(are_few, what="the others to go")
    for caller in callers:
        caller.writer.close()
    other = await site.call()
    await other.say(POST + b"Content-Length: 400000\r\n\r\n" + b"y" * 400_000)
    assert await other.status() == 200
    assert site.table._unfinished_bytes == 0


# Many requests, and many connections


async def test_requests_in_a_pipeline_are_answered_in_turn_and_few_are_kept(site: Site) -> None:
    site.app.may_read.clear()
    caller = await site.call()
    number = 3000
    sending = asyncio.create_task(caller.say((GET + b"\r\n") * number))
    other = await site.call()
    await other.say(b"POST /early HTTP/1.1\r\nHost: hive\r\n\r\n")
    assert await other.status() == 401
    site.app.may_read.set()

    longest = 0
    for _ in range(300):
        assert await caller.status() == 200
        longest = max(longest, *(len(protocol.pipeline) for protocol in site.protocols))

    assert 0 < longest < 100
    sending.cancel()
    caller.writer.close()


async def test_requests_past_those_of_a_second_wait_for_the_next(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "MAX_REQUESTS_PER_SECOND", 3)
    monkeypatch.setattr(connections, "CHECK_SECONDS", 0.1)
    caller = await site.call()

    await caller.say((GET + b"\r\n") * 5)
    assert [await caller.status() for _ in range(5)] == [200] * 5
    [protocol] = site.protocols
    is_resting_at_first = not protocol.transport.is_reading()
    await caller.say(GET + b"\r\n")

    assert is_resting_at_first
    assert await caller.status() == 200


async def test_a_request_to_speak_http_2_is_answered_in_http_1(site: Site) -> None:
    caller = await site.call()

    await caller.say(GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n")

    assert await caller.status() == 200


async def test_silent_connections_make_room_for_new_ones() -> None:
    async with serving(most_each=3) as site:
        silent = [await site.call() for _ in range(20)]

        await served(site)

        assert len(site.table) <= 3
        assert await silent[0].rest() == b""


async def test_connections_that_are_served_stay_and_a_new_one_is_refused() -> None:
    async with serving(most_each=3) as site:
        site.app.may_read.clear()
        busy = [await _asking(site) for _ in range(3)]
        new = await site.call()
        assert (await new.answer())[:2] == (429, "application/problem+json")
        site.app.may_read.set()

        assert [await caller.status() for caller in busy] == [200, 200, 200]
        assert site.table.endings.counts[Ending.NO_PLACE] == 1


async def test_a_slow_body_goes_before_an_idle_connection() -> None:
    async with serving(most_each=2) as site:
        idle, sending = await site.call(), await site.call()
        await idle.say(GET + b"\r\n")
        assert await idle.status() == 200
        await sending.say(POST + b"Content-Length: 9\r\n\r\n.")
        await until_asked(site, 2)

        await served(site)

        assert (await sending.rest()).startswith(b"HTTP/1.1 429 ")
        await idle.say(GET + b"\r\n")
        assert await idle.status() == 200


async def test_a_trusted_proxy_has_as_many_connections_as_there_are() -> None:
    async with serving(most_each=2, most=10, trusted=(ip_network("127.0.0.0/8"),)) as site:
        site.app.may_read.clear()
        busy = [await _asking(site) for _ in range(10)]
        refused = await site.call()
        assert await refused.status() == 429
        site.app.may_read.set()

        assert [await caller.status() for caller in busy] == [200] * 10


@pytest.mark.usefixtures("hurry")
async def test_a_client_that_takes_next_to_nothing_of_its_answer_is_cut_off(site: Site) -> None:
    caller = await site.call()
    await caller.say(GET.replace(b"/", b"/large", 1) + b"\r\n")

    async def is_gone() -> bool:
        return len(site.table) == 0

    await caller.reader.readexactly(100)
    await wait_until_async(is_gone, what="the connection to be cut off")


async def _asking(site: Site) -> Caller:
    """A client whose request has arrived and is not answered yet."""
    number = len(site.app.requests)
    caller = await site.call()
    await caller.say(GET + b"\r\n")
    await until_asked(site, number + 1)
    return caller


async def until_asked(site: Site, number: int) -> None:
    async def asked() -> bool:
        return len(site.app.requests) >= number

    await wait_until_async(asked, what="the request to arrive")


# What a client takes


async def test_an_answer_that_goes_on_is_no_slow_client(site: Site) -> None:
    """The buffer of a stream is as full at the end of each second as before, however much was taken in between."""
    caller = await site.call()
    [protocol] = site.table._addresses
    assert isinstance(protocol, http_protocol.HttpProtocol)
    for _ in range(100):
        protocol.pause_writing()
        protocol.check(0.0, 1.0)
        protocol.resume_writing()

    await caller.say(GET + b"\r\n")
    assert await caller.status() == 200


async def test_a_client_that_takes_nothing_is_put_out(site: Site) -> None:
    caller = await site.call()
    [protocol] = site.table._addresses
    assert isinstance(protocol, http_protocol.HttpProtocol)
    protocol.pause_writing()
    for _ in range(100):
        protocol.check(0.0, 1.0)

    assert await caller.rest() == b""
    assert len(site.table) == 0


async def test_who_was_put_out_while_signing_in_is_not_counted() -> None:
    async with serving(most_each=1) as site:
        stranger = await site.call()
        await stranger.upgrade()
        [protocol] = site.table._addresses
        assert isinstance(protocol, FrameProtocol)
        protocol.evict()
        site.table.leave(protocol)
        protocol.signed_in()

        assert await stranger.close_code() == TRY_AGAIN_LATER
        await wait_until_async(lambda: is_empty(site), what="the end of the connection")


async def is_empty(site: Site) -> bool:
    return len(site.table) == 0
