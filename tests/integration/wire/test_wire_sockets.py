"""What a client may send over a socket, and how fast."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.websockets import uvicorn_protocol
from app.websockets.uvicorn_protocol import FrameProtocol
from app.wire.bounds import MAX_FRAGMENTS, MAX_FRAMES_AT_ONCE
from app.wire.endings import Ending
from tests.siege.stranger import frame
from tests.utils.test_utils import wait_until_async
from tests.utils.wire import Caller, Site, serving

CONT, TEXT, PING, PONG = 0x0, 0x1, 0x9, 0xA
EMPTY_PONG = b"\x8a\x00"
POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serving() as site:
        yield site


@pytest.fixture
async def guest(site: Site) -> Caller:
    """A socket whose user has signed in."""
    caller = await site.call()
    await caller.upgrade()
    await caller.say(frame(TEXT, b"it's me"))
    await until_signed_in(site, 1)
    return caller


async def until_heard(site: Site, number: int) -> None:
    async def has_heard() -> bool:
        return len(site.app.heard) >= number

    await wait_until_async(has_heard, what=f"{number} messages")


@pytest.mark.parametrize(
    "flood",
    [
        frame(PING) * 300,
        frame(PONG) * 300,
        frame(TEXT, b"x" * 100, fin=False) * 20,
        frame(TEXT, b"", fin=False) + frame(CONT, b"", fin=False) * 300,
        b"\x81\xfe\xff\xff\x00\x00\x00\x00" + b"x" * 0xFFFF,
    ],
    ids=["pings", "pongs", "fragment", "empty fragments", "long message"],
)
async def test_more_than_a_token_before_the_sign_in_ends_the_socket(site: Site, flood: bytes) -> None:
    caller = await site.call()
    await caller.upgrade()

    await caller.say(flood)

    assert await caller.close_code() in {POLICY_VIOLATION, 1002}
    assert site.app.heard == []


async def test_a_message_that_follows_the_token_at_once_is_read_after_the_sign_in(site: Site) -> None:
    site.app.may_read.clear()
    caller = await site.call()
    await caller.upgrade()

    await caller.say(frame(TEXT, b"it's me") + frame(TEXT, b"x" * 125) * 20)
    await until_heard(site, 1)
    site.app.may_read.set()

    await until_heard(site, 21)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"Sec-WebSocket-Version: 13\r\n", 400),
        (b"Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", 400),
        (b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n", 400),
        (b"Content-Length: 1\r\nSec-WebSocket-Key: x\r\n", 400),
    ],
)
async def test_a_handshake_that_is_none_is_a_problem(site: Site, fields: bytes, status: int) -> None:
    caller = await site.call()

    await caller.say(
        b"GET /ws HTTP/1.1\r\nHost: hive\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + fields + b"\r\n"
    )

    answer = await caller.answer()
    assert answer[:2] == (status, "application/problem+json")
    assert await caller.rest() == b""
    assert site.table.endings.counts[Ending.BAD_HANDSHAKE] == 1


async def test_a_few_pings_are_answered_at_once(guest: Caller) -> None:
    number = int(MAX_FRAMES_AT_ONCE) - 50

    await guest.say(frame(PING) * number)

    assert await guest.reader.readexactly(2 * number) == EMPTY_PONG * number


async def test_many_pings_are_answered_as_fast_as_the_budget_allows(
    site: Site, guest: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_protocol, "SHORTEST_REST", 0.01)
    [protocol] = site.protocols

    async def is_resting() -> bool:
        return protocol._rest is not None and not protocol.transport.is_reading()

    await guest.say(frame(PING) * 1000)
    await wait_until_async(is_resting, what="a rest")
    protocol._frame_budget._rate = 10_000.0

    assert await guest.reader.readexactly(2000) == EMPTY_PONG * 1000


@pytest.mark.parametrize("flood", [frame(PING), frame(PONG), frame(TEXT)], ids=["pings", "pongs", "empty messages"])
async def test_a_flood_is_not_read_on_and_ends_the_socket(
    site: Site, guest: Caller, flood: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.protocols[0]._frame_budget._rate = 1000.0
    monkeypatch.setattr(uvicorn_protocol, "MAX_EXCESS_SECONDS", 0.2)
    monkeypatch.setattr(uvicorn_protocol, "SHORTEST_REST", 0.01)
    flooding = asyncio.create_task(guest.say_until_closed(flood * 10_000))

    assert await guest.close_code() == POLICY_VIOLATION
    assert await flooding < 32 * 1024 * 1024


async def test_a_message_has_a_bounded_number_of_fragments(guest: Caller) -> None:
    await guest.say(frame(TEXT, b"", fin=False) + frame(CONT, b"", fin=False) * (MAX_FRAGMENTS - 100))
    # As many as the budget allows at once, and a few more.
    await guest.say(frame(CONT, b"", fin=False) * 101)

    assert await guest.close_code() == POLICY_VIOLATION


async def test_pings_are_not_answered_while_the_pongs_are_not_taken(site: Site, guest: Caller) -> None:
    [protocol] = site.protocols
    protocol.pause_writing()
    await guest.say(frame(PING) * 50)

    async def has_come() -> bool:
        return bool(protocol._backlog) and not protocol.transport.is_reading()

    await wait_until_async(has_come, what="the pings")
    unsent = protocol.transport.get_write_buffer_size()
    protocol.resume_writing()

    assert unsent == 0
    assert await guest.reader.readexactly(100) == EMPTY_PONG * 50


async def test_a_handshake_that_the_parser_refuses_is_answered_and_closed(site: Site) -> None:
    caller = await site.call()
    await caller.say(
        b"GET /ws HTTP/1.1\r\nHost: hive\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX: "
        + b"x" * 9000
        + b"\r\n\r\n"
    )

    assert (await caller.rest()).startswith(b"HTTP/1.1 431 ")
    assert len(site.table) == 0


async def test_sockets_without_a_user_make_room_for_new_connections() -> None:
    async with serving(most_each=2) as site:
        strangers = [await site.call() for _ in range(2)]
        for stranger in strangers:
            await stranger.upgrade()

        another = await site.call()
        await another.upgrade()

        assert await strangers[0].close_code() == TRY_AGAIN_LATER


async def test_a_socket_that_signs_in_is_not_put_out_for_a_new_one() -> None:
    async with serving(most_each=2) as site:
        silent, speaking = [await site.call() for _ in range(2)]
        for stranger in (speaking, silent):
            await stranger.upgrade()
        await speaking.say(frame(TEXT, b"it's me")[:4])
        first = next(member for member in site.table._addresses if isinstance(member, FrameProtocol))

        async def has_begun() -> bool:
            return first._early_bytes > 0

        await wait_until_async(has_begun, what="the beginning of the token")

        another = await site.call()
        await another.upgrade()

        assert await silent.close_code() == TRY_AGAIN_LATER
        assert first in site.table._addresses


async def test_a_socket_with_a_user_counts_for_no_address() -> None:
    async with serving(most_each=1) as site:
        for number in range(3):
            caller = await site.call()
            await caller.upgrade()
            await caller.say(frame(TEXT, b"it's me"))
            await until_signed_in(site, number + 1)

        assert len(site.table) == 3
        assert not any(site.table.endings.counts.values())
    assert len(site.table) == 0


async def until_signed_in(site: Site, number: int) -> None:
    async def are_signed_in() -> bool:
        return len(site.table) == number and not site.table._addresses

    await wait_until_async(are_signed_in, what="the sign-in")
