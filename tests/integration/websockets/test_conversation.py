"""What is said over one socket, from its first word to its last."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from app.core.auth import NotSignedIn, SignedIn
from app.core.errors import ServiceUnavailable
from app.core.permissions import Actor
from app.core.redis import connect_redis
from app.events.backlog import BacklogPage, LogPosition, PageSize, Resync
from app.events.filters import EventFilter
from app.models import EventType
from app.websockets import conversation
from app.websockets.connection import MAX_QUEUED_MESSAGES
from app.websockets.connection_manager import ConnectionManager
from app.websockets.conversation import MAX_MESSAGE_BYTES, SocketServer, converse
from app.websockets.message import RESYNC
from app.websockets.presence import Presence
from tests.utils.readers import ADA, GRACE, ROOT, event_of
from tests.utils.test_utils import PATIENCE, FakeNetwork, wait_until_async

EPOCH = uuid4()
PEOPLE = {"token-ada": ADA, "token-grace": GRACE, "token-root": ROOT}


@pytest.fixture
async def server(redis_url: str) -> AsyncIterator[SocketServer]:
    """The sockets of a process, whose tokens are plain words. What is said goes to all sockets at once."""
    redis = connect_redis(redis_url)
    connections = ConnectionManager()
    connections.follow_from(0)

    async def sign_in(token: str) -> SignedIn:
        if token == "database-is-away":
            raise ServiceUnavailable("The database can't be reached.")
        if token.removesuffix("-expiring") not in PEOPLE:
            raise NotSignedIn
        lifetime = timedelta(milliseconds=50) if token.endswith("-expiring") else timedelta(minutes=1)
        return SignedIn(PEOPLE[token.removesuffix("-expiring")], datetime.now(UTC) + lifetime, uuid4())

    async def say(actor: Actor, message: str) -> None:
        connections.deliver(event_of(EventType.CHAT_MESSAGE, actor=actor, text=message))

    async def read_backlog(_actor: Actor, after: LogPosition, _wanted: EventFilter, _size: PageSize) -> BacklogPage:
        if after.seq > 100:
            raise Resync
        position = connections.position
        return BacklogPage([event_of(text=f"missed since {after.seq}")], position, position, EPOCH)

    presence = Presence(redis, connections)
    yield SocketServer(connections, presence, sign_in, say, read_backlog, frozenset({"https://board.example"}))
    await redis.aclose()


@asynccontextmanager
async def talking(server: SocketServer, network: FakeNetwork) -> AsyncIterator[FakeNetwork]:
    """A conversation over this network, from its first word to its last."""
    talk = asyncio.create_task(converse(network.websocket, server))
    try:
        yield network
    finally:
        network.leave()
        async with asyncio.timeout(PATIENCE):
            await talk


async def until_connected(server: SocketServer, number: int) -> None:
    async def are_there() -> bool:
        return len(list(server.connections)) == number

    await wait_until_async(are_there, what=f"{number} sockets")


async def test_a_deactivated_account_is_shown_out_with_4401(server: SocketServer) -> None:
    async with talking(server, FakeNetwork(query="token=token-ada")) as network:
        await until_connected(server, 1)

        server.connections.deliver(event_of(EventType.ACCOUNT_DEACTIVATED, actor=ADA, audience=[]))

        assert await network.closing_code() == 4401
        assert network.texts == []
    assert len(list(server.connections)) == 0


async def test_a_reader_that_stopped_reading_is_closed_with_4008(server: SocketServer) -> None:
    async with talking(server, FakeNetwork(query="token=token-ada")) as network:
        await until_connected(server, 1)
        network.is_reading.clear()
        for number in range(2 * MAX_QUEUED_MESSAGES):
            server.connections.deliver(event_of(text=str(number)))
        network.is_reading.set()

        assert await network.closing_code() == 4008
        assert network.texts[-1] == RESYNC.text


async def test_a_token_that_runs_out_ends_its_socket_with_4401(server: SocketServer) -> None:
    async with talking(server, FakeNetwork(query="token=token-ada-expiring")) as network:
        assert await network.closing_code() == 4401


async def test_a_reader_that_never_reads_again_is_not_waited_for(
    server: SocketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "FAREWELL_SECONDS", 0.05)
    network = FakeNetwork(query="token=token-ada")
    talk = asyncio.create_task(converse(network.websocket, server))
    await until_connected(server, 1)
    network.is_reading.clear()
    server.connections.deliver(event_of())
    server.connections.deliver(event_of(EventType.ACCOUNT_DEACTIVATED, actor=ADA, audience=[]))

    async with asyncio.timeout(PATIENCE):
        await talk

    assert (network.texts, list(server.connections)) == ([], [])


async def test_a_fault_of_ours_ends_the_socket_with_1011(server: SocketServer) -> None:
    async def fail(_actor: Actor, _message: str) -> None:
        raise LookupError

    async with talking(replace(server, say=fail), FakeNetwork(query="token=token-ada")) as network:
        network.say('{"type": "chat.message", "data": {"message": "Tea is ready"}}')

        assert await network.closing_code() == 1011


async def test_an_idle_socket_costs_one_task_beside_its_own(server: SocketServer) -> None:
    before = asyncio.all_tasks()
    async with talking(server, FakeNetwork(query="token=token-ada")) as network:
        network.say('{"type": "ping"}')
        await network.text()

        assert len(asyncio.all_tasks() - before) == 2


@pytest.mark.parametrize(("token", "code"), [("of-nobody", 4401), ("", 4401), ("database-is-away", 1013)])
async def test_who_can_not_be_signed_in_is_told_why(server: SocketServer, token: str, code: int) -> None:
    async with talking(server, FakeNetwork(query=f"token={token}")) as network:
        assert await network.closing_code() == code
        # A code can be read only from a socket that was accepted.
        assert network.arrived[0]["type"] == "websocket.accept"


@pytest.mark.parametrize(
    ("origin", "is_welcome"),
    [
        (None, True),
        ("http://hive.test", True),
        ("https://board.example", True),
        ("https://evil.example", False),
        ("https://hive.test.evil.example", False),
        ("null", False),
    ],
)
async def test_only_pages_of_known_origins_are_welcome(
    server: SocketServer, origin: str | None, is_welcome: bool
) -> None:
    async with talking(server, FakeNetwork(query="token=token-ada", origin=origin)) as network:
        network.say('{"type": "ping"}')
        if is_welcome:
            assert await network.text() == '{"type": "pong", "data": null}'
        else:
            await network.closing_code()
            assert [message["type"] for message in network.arrived] == ["websocket.close"]


async def test_a_message_that_is_too_large_closes_with_1009_also_when_the_server_let_it_in(
    server: SocketServer,
) -> None:
    async with talking(server, FakeNetwork(query="token=token-ada")) as network:
        network.say(json.dumps({"type": "ping", "data": "x" * MAX_MESSAGE_BYTES}))

        assert await network.closing_code() == 1009
        assert network.texts == []


async def test_chat_reaches_all_and_presence_the_others(server: SocketServer) -> None:
    async with talking(server, FakeNetwork(query="token=token-ada")) as ada:
        await until_connected(server, 1)
        async with talking(server, FakeNetwork(query="token=token-grace")) as grace:
            assert '"type":"user.online"' in await ada.text()
            assert str(GRACE.id) in await ada.text()
            grace.say('{"type": "chat.message", "data": {"message": "Tea is ready"}}')
            assert await ada.text(1) == "Tea is ready"
            # They came in the same moment, so Grace may have been told of Ada first.
            place = int(str(ADA.id) in await grace.text())
            assert await grace.text(place) == "Tea is ready"
            grace.leave()
            assert '"type":"user.offline"' in await ada.text(2)
            grace_texts = list(grace.texts)

    assert not any(str(GRACE.id) in text for text in grace_texts)
