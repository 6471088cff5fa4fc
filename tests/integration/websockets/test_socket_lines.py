"""Both ways to write to a socket, on real connections: with frames that all share, and with what any server has."""

import asyncio
import gc
import json
import socket
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import uuid4

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame

from app.core.auth import SignedIn
from app.core.permissions import Actor
from app.core.redis import connect_redis
from app.events.backlog import BacklogPage, LogPosition, PageSize
from app.events.filters import EventFilter
from app.events.published import PublishedEvent
from app.models import EventType
from app.websockets.connection import MAX_QUEUED_BYTES, CloseCode, Connection
from app.websockets.connection_manager import ConnectionManager
from app.websockets.conversation import SocketServer, converse
from app.websockets.line import FrameLine, PlainLine
from app.websockets.message import RESYNC
from app.websockets.presence import Presence
from app.websockets.replay import PAGE
from app.websockets.seats import Seats
from app.websockets.uvicorn_protocol import FrameProtocol
from app.wire.config import WireConfig
from app.wire.connections import ConnectionTable
from tests.utils.test_utils import PATIENCE, wait_until_async

ADA = Actor(uuid4())
# As small as they get, so that a reader that takes nothing is noticed soon.
BUFFER = 4096
BIG = 10_000
SOCKETS = 20
LINES = {"frames": FrameLine, "plain": PlainLine}
_seqs = count(1)


class QuietServer(uvicorn.Server):
    """Leaves signals to the process of the tests."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Site:
    """A server of sockets in this process, whose events come from the test."""

    connections: ConnectionManager
    server: QuietServer
    serving: asyncio.Task[None]
    port: int

    @property
    def readers(self) -> list[Connection]:
        return list(self.connections)

    @asynccontextmanager
    async def opened(self, query: str = "", *, at_once: int | None = None) -> AsyncIterator[ClientConnection]:
        """A client whose socket is there. It takes no more than so many messages before it's asked for them."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        client.connect(("127.0.0.1", self.port))
        url = f"ws://127.0.0.1:{self.port}/ws?token=any{query}"
        async with connect(url, sock=client, max_queue=at_once, ping_interval=None, close_timeout=1) as opened:
            yield opened

    async def until_all_wait(self, number: int = 1) -> None:
        async def do_wait() -> bool:
            return len(self.readers) == number and all(reader._idling is not None for reader in self.readers)

        await wait_until_async(do_wait, what=f"{number} sockets that wait for events")

    async def until_one_lags(self) -> None:
        async def lags() -> bool:
            return any(reader._queue for reader in self.readers)

        await wait_until_async(lags, what="a socket with a queue")


@pytest.fixture(params=list(LINES))
async def site(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Site]:
    redis = connect_redis(redis_url)
    connections = ConnectionManager()
    connections.follow_from(0)

    async def sign_in(_token: str) -> SignedIn:
        return SignedIn(ADA, datetime.now(UTC) + timedelta(minutes=1), uuid4())

    async def say(_actor: Actor, message: str) -> None:
        connections.deliver(event_of(message))

    async def read_backlog(_actor: Actor, _after: LogPosition, _wanted: EventFilter, size: PageSize) -> BacklogPage:
        missed = [event_of(f"missed {number}", size=BIG) for number in range(size.events)]
        return BacklogPage(missed, missed[-1].seq or 0, 0, uuid4())

    sockets = SocketServer(
        connections, Presence(redis, connections), sign_in, say, read_backlog, frozenset(), Seats(SOCKETS)
    )

    async def serve_socket(websocket: WebSocket) -> None:
        await converse(websocket, sockets)

    app = Starlette(routes=[WebSocketRoute("/ws", serve_socket)])
    protocol = FrameProtocol if request.param == "frames" else "websockets-sansio"
    config = WireConfig(
        app,
        connections=ConnectionTable(most_each=SOCKETS, most=SOCKETS, trusted=()),
        ws=protocol,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
    )
    server = QuietServer(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield Site(connections, server, serving, listener.getsockname()[1])
        server.should_exit = True
        await serving
    await redis.aclose()


def event_of(text: str, *, size: int = 0) -> PublishedEvent:
    data = {"type": "chat.message", "text": text, "padding": "ü" * (size // 2)}
    message = json.dumps(data, ensure_ascii=False)
    return PublishedEvent(next(_seqs), EventType.CHAT_MESSAGE, ADA.id, None, None, message)


async def texts_of(client: ClientConnection, number: int) -> list[str]:
    async with asyncio.timeout(PATIENCE):
        return [str(await client.recv()) for _ in range(number)]


async def texts_until_the_end(client: ClientConnection) -> list[str]:
    """All that comes before the socket is closed, the code of which is then there to see."""
    texts: list[str] = []
    with suppress(ConnectionClosed):
        while True:
            texts += await texts_of(client, 1)
    return texts


async def test_the_way_is_that_of_the_server(site: Site, request: pytest.FixtureRequest) -> None:
    async with site.opened():
        await site.until_all_wait()

        assert type(site.readers[0].line) is LINES[request.node.callspec.params["site"]]


async def test_events_one_by_one_and_together_come_in_order_between_answers(site: Site) -> None:
    async with site.opened() as client:
        await site.until_all_wait()
        events = [event_of(str(number), size=number * 100) for number in range(20)]

        site.connections.deliver(events[0])
        await client.send('{"type": "ping", "data": 1}')
        answered = await texts_of(client, 2)
        site.connections.deliver(*events[1:10])
        for event in events[10:]:
            site.connections.deliver(event)
        await client.send('{"type": "chat.message", "data": {"message": "Tea is ready"}}')
        rest = await texts_of(client, 20)

        assert answered == [events[0].text, '{"type": "pong", "data": 1}']
        assert rest[:-1] == [event.text for event in events[1:]]
        assert json.loads(rest[-1])["text"] == "Tea is ready"
        assert site.readers[0].events_given == 21


async def test_a_reader_that_pauses_gets_all_in_order_and_what_follows_too(site: Site) -> None:
    events = [event_of(str(number), size=BIG) for number in range(MAX_QUEUED_BYTES // BIG - 5)]
    async with site.opened(at_once=1) as client:
        await site.until_all_wait()
        for number, event in enumerate(events):
            site.connections.deliver(event)
            if number % 10 == 0:
                # Whatever is written must have been written by now, or the order would have no chance to be wrong.
                await asyncio.sleep(0)
        await site.until_one_lags()

        first = await texts_of(client, len(events))
        await site.until_all_wait()
        site.connections.deliver(last := event_of("last"))

        assert first == [event.text for event in events]
        assert await texts_of(client, 1) == [last.text]
        assert site.readers[0].events_given == len(events) + 1


async def test_a_reader_that_is_too_slow_starts_over_and_holds_nobody_else(site: Site) -> None:
    events = [event_of(str(number), size=BIG) for number in range(3 * MAX_QUEUED_BYTES // BIG)]
    async with site.opened(at_once=1) as slow, site.opened() as quick:
        await site.until_all_wait(2)
        arrived = []
        for event in events:
            site.connections.deliver(event)
            arrived += await texts_of(quick, 1)
        assert arrived == [event.text for event in events]
        texts = await texts_until_the_end(slow)

        assert slow.close_code == CloseCode.TOO_SLOW
        assert texts[-1] == RESYNC.text
        assert texts[:-1] == [event.text for event in events[: len(texts) - 1]]


async def test_what_was_missed_comes_before_what_is_new(site: Site) -> None:
    async with site.opened("&since=0", at_once=1) as client:
        await site.until_one_lags()
        missed = await texts_of(client, PAGE.events)
        await site.until_all_wait()
        site.connections.deliver(event := event_of("new"))

        assert [json.loads(text)["text"] for text in missed] == [f"missed {number}" for number in range(PAGE.events)]
        assert await texts_of(client, 1) == [event.text]
        assert site.readers[0].events_given == PAGE.events + 1


async def test_what_was_handed_over_before_the_end_is_written_before_it(site: Site) -> None:
    async with site.opened() as client:
        await site.until_all_wait()
        events = [event_of("last words"), event_of("nothing")]

        site.connections.deliver(events[0])
        site.readers[0].end(CloseCode.UNAUTHORIZED)
        site.connections.deliver(events[1])

        assert await texts_until_the_end(client) == [events[0].text]
        assert client.close_code == CloseCode.UNAUTHORIZED


async def test_a_client_that_is_gone_is_no_trouble_for_the_others(site: Site) -> None:
    async with site.opened() as gone, site.opened() as other:
        await site.until_all_wait(2)
        # As after a power cut: no word of its own, and what comes is refused.
        gone.transport.abort()
        events = [event_of(str(number)) for number in range(50)]
        for event in events:
            site.connections.deliver(event)
            await asyncio.sleep(0)

        assert await texts_of(other, len(events)) == [event.text for event in events]
        await site.until_all_wait(1)


async def test_a_client_that_goes_while_something_waits_for_it_is_forgotten(site: Site) -> None:
    async with site.opened(at_once=1) as client:
        await site.until_all_wait()
        for number in range(MAX_QUEUED_BYTES // BIG - 5):
            site.connections.deliver(event_of(str(number), size=BIG))
        await site.until_one_lags()

        client.transport.abort()

        await site.until_all_wait(0)


async def test_a_server_that_stops_says_so_and_writes_nothing_after_it(site: Site) -> None:
    async with site.opened() as client:
        await site.until_all_wait()
        reader = site.readers[0]
        site.connections.deliver(event := event_of("before"))
        site.server.should_exit = True
        texts = asyncio.create_task(texts_until_the_end(client))
        while not site.serving.done():
            site.connections.deliver(event_of("meanwhile"))
            await asyncio.sleep(0)

        assert (await texts)[0] == event.text
        assert client.close_code == 1012
        # None of the later ones is taken for written.
        assert reader.events_given == len(await texts)


@pytest.mark.parametrize("site", ["frames"], indirect=True)
async def test_nothing_of_a_socket_that_is_gone_waits_for_the_collection_of_garbage(site: Site) -> None:
    async with site.opened():
        await site.until_all_wait()
        line = site.readers[0].line
        assert isinstance(line, FrameLine)
        left = weakref.ref(line._server)
        del line
        gc.disable()

    async def is_gone() -> bool:
        return left() is None

    try:
        await wait_until_async(is_gone, what="the end of a socket")
    finally:
        gc.enable()


@pytest.mark.parametrize("site", ["frames"], indirect=True)
async def test_an_event_is_made_a_frame_once_for_all_sockets(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    serialize = Frame.serialize

    def count_and_serialize(frame: Frame, *, mask: bool, extensions: None = None) -> bytes:
        data = serialize(frame, mask=mask, extensions=extensions)
        sizes.append(len(data))
        return data

    async with AsyncExitStack() as stack:
        # Half of them want the same in other words.
        wishes = ("", "&types=chat.message")
        clients = [await stack.enter_async_context(site.opened(wishes[n % 2])) for n in range(SOCKETS)]
        await site.until_all_wait(SOCKETS)
        events = [event_of(str(number), size=100) for number in range(6)]
        monkeypatch.setattr(Frame, "serialize", count_and_serialize)
        site.connections.deliver(events[0])
        await site.connections.deliver_batch(events[1:])
        for client in clients:
            assert await texts_of(client, len(events)) == [event.text for event in events]
        monkeypatch.undo()

    # Up to 64 KiB a frame has four bytes before the text.
    assert sizes == [len(event.text.encode()) + 4 for event in events]
