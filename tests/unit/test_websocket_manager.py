"""The sockets of one process: who is given which event, and what happens to a reader that is too slow.

Only the network is a fake here; what runs over it is the application's own.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import UUID, uuid4

import pytest
from starlette.websockets import WebSocketDisconnect

from app.core.auth import NotSignedIn, SignedIn
from app.core.errors import ServiceUnavailable
from app.core.permissions import Actor, Audience
from app.core.redis import connect_redis
from app.events.backlog import BacklogPage, LogPosition, Resync
from app.events.filters import EventFilter
from app.events.published import PublishedEvent
from app.models import EventType
from app.schemas.event import Envelope, EventActor
from app.websockets import conversation
from app.websockets.connection import (
    MAX_QUEUED_BYTES,
    MAX_QUEUED_MESSAGES,
    CloseCode,
    Connection,
)
from app.websockets.connection_manager import ConnectionManager
from app.websockets.conversation import MAX_MESSAGE_BYTES, SocketServer, converse
from app.websockets.line import FrameLine
from app.websockets.message import RESYNC, Message
from app.websockets.presence import Presence
from tests.utils.test_utils import FakeNetwork, wait_until_async

_seqs = count(1)
ADA, GRACE, ROOT = Actor(uuid4()), Actor(uuid4()), Actor(uuid4(), is_admin=True)
EPOCH = uuid4()
PEOPLE = {"token-ada": ADA, "token-grace": GRACE, "token-root": ROOT}


def event_of(
    event_type: EventType = EventType.TASK_UPDATED,
    *,
    actor: Actor = ADA,
    audience: Audience = None,
    text: str = '{"type":"task.updated"}',
) -> PublishedEvent:
    return PublishedEvent(next(_seqs), event_type, actor.id, None, audience, text)


async def connect(manager: ConnectionManager, actor: Actor) -> Connection:
    """A reader among those of the manager; nothing is written yet."""
    connection = Connection(actor)
    manager.add(connection)
    return connection


def queued(connection: Connection) -> list[str]:
    return [message.text for message in connection._queue]


class Pipe:
    """A server's end of a socket that takes frames while it has room."""

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.room.set()
        self.is_open = True
        self.frames: list[bytes] = []

    def write_frames(self, frames: bytes) -> bool:
        is_taken = self.is_open and self.room.is_set()
        self.frames += [frames] * is_taken
        return is_taken

    async def until_writable(self) -> bool:
        await self.room.wait()
        return self.is_open


@asynccontextmanager
async def piped(manager: ConnectionManager | None = None) -> AsyncIterator[tuple[Connection, Pipe]]:
    """A reader whose own task waits for something to write."""
    pipe = Pipe()
    connection = await connect(manager or ConnectionManager(), ADA)
    line = connection.line = FrameLine(pipe)

    async def write() -> None:
        while (message := await connection.next_message()) is not None:
            await line.write(message)

    writing = asyncio.create_task(write())
    await asyncio.sleep(0)
    yield connection, pipe
    connection.end(1000)
    pipe.room.set()
    await writing


async def write(connection: Connection, network: FakeNetwork) -> None:
    """Send what is queued until the end, as the socket's own task does."""
    websocket = network.websocket
    await websocket.accept()
    while (message := await connection.next_message()) is not None:
        await websocket.send_text(message.text)


async def test_an_event_for_everybody_goes_to_every_socket() -> None:
    manager = ConnectionManager()
    connections = [await connect(manager, actor) for actor in (ADA, ADA, GRACE, ROOT)]

    manager.deliver(event_of())

    assert [queued(connection) for connection in connections] == [['{"type":"task.updated"}']] * 4


@pytest.mark.parametrize(
    ("audience", "readers"),
    [(None, [ADA, GRACE, ROOT]), ([], [ROOT]), ([ADA.id], [ADA, ROOT]), ([ADA.id, GRACE.id], [ADA, GRACE, ROOT])],
    ids=["everybody", "nobody", "one", "two"],
)
async def test_an_event_goes_to_its_audience_and_to_admins(
    audience: Sequence[UUID] | None, readers: list[Actor]
) -> None:
    manager = ConnectionManager()
    connections = [await connect(manager, actor) for actor in (ADA, GRACE, ROOT)]

    manager.deliver(event_of(audience=audience))

    assert [connection.actor for connection in connections if queued(connection)] == readers


async def test_all_sockets_are_given_the_one_text_that_was_encoded() -> None:
    manager = ConnectionManager()
    connections = [await connect(manager, actor) for actor in (ADA, GRACE)]
    event = event_of()

    manager.deliver(event)

    for connection in connections:
        [message] = connection._queue
        assert message.text is event.text


async def test_an_internal_event_is_shown_to_nobody() -> None:
    manager = ConnectionManager()
    connections = [await connect(manager, actor) for actor in (GRACE, ROOT)]

    for audience in ([], None, [ROOT.id]):
        manager.deliver(event_of(EventType.ACCOUNT_DEACTIVATED, audience=audience))

    assert [queued(connection) for connection in connections] == [[], []]


@pytest.mark.parametrize("presence", [EventType.USER_ONLINE, EventType.USER_OFFLINE])
async def test_that_oneself_is_online_is_told_to_the_others_only(presence: EventType) -> None:
    manager = ConnectionManager()
    own, others = [await connect(manager, ADA), await connect(manager, ADA)], await connect(manager, GRACE)

    manager.deliver(event_of(presence, actor=ADA))

    assert [queued(connection) for connection in own] == [[], []]
    assert len(queued(others)) == 1


async def test_ones_own_changes_are_told_to_oneself_too() -> None:
    manager = ConnectionManager()
    own = await connect(manager, ADA)

    manager.deliver(event_of(EventType.CHAT_MESSAGE, actor=ADA))

    assert len(queued(own)) == 1


async def test_deactivation_ends_the_sockets_of_that_account_and_no_other() -> None:
    manager = ConnectionManager()
    ended, others = [await connect(manager, ADA) for _ in range(2)], await connect(manager, GRACE)

    manager.deliver(event_of(EventType.ACCOUNT_DEACTIVATED, actor=ADA, audience=[]))

    assert [(connection.is_ended, connection.close_code) for connection in ended] == [(True, 4401)] * 2
    assert not others.is_ended


async def test_what_ends_a_reader_in_the_midst_of_others_ends_it_there() -> None:
    manager = ConnectionManager()
    ended, other = await connect(manager, ADA), await connect(manager, GRACE)
    events = [event_of(text=str(number)) for number in range(4)]
    end = event_of(EventType.ACCOUNT_DEACTIVATED, actor=ADA, audience=[])

    manager.deliver(*events[:2], end, *events[2:])

    assert (queued(ended), ended.close_code) == (["0", "1"], 4401)
    assert (queued(other), other.is_ended) == (["0", "1", "2", "3"], False)


async def test_of_events_handed_over_together_each_gets_what_is_for_them_in_order() -> None:
    manager = ConnectionManager()
    connections = [await connect(manager, actor) for actor in (ADA, GRACE, ROOT)]
    audiences = [None, [ADA.id], [GRACE.id], [], [ADA.id, GRACE.id], None]

    manager.deliver(*(event_of(audience=audience, text=str(number)) for number, audience in enumerate(audiences)))

    assert [queued(each) for each in connections] == [list("0145"), list("0245"), list("012345")]


async def test_readers_are_given_what_each_of_them_wants() -> None:
    manager = ConnectionManager()
    chat = Connection(ADA, wanted=EventFilter(frozenset({EventType.CHAT_MESSAGE})))
    tasks = Connection(ADA, wanted=EventFilter(frozenset({EventType.TASK_UPDATED})))
    for connection in (chat, tasks):
        manager.add(connection)

    manager.deliver(event_of(EventType.CHAT_MESSAGE, text="chat"), event_of(EventType.TASK_UPDATED, text="task"))

    assert (queued(chat), queued(tasks)) == (["chat"], ["task"])


def ended(*ids: UUID) -> PublishedEvent:
    """The event of the end of these sessions or tokens of Ada's."""
    data = {"user_id": str(ADA.id), "sign_in_ids": list(map(str, ids))}
    envelope = Envelope(
        id=uuid4(),
        seq=1,
        type=EventType.SIGN_IN_ENDED,
        timestamp=datetime.now(UTC),
        actor=EventActor(id=ADA.id),
        task=None,
        data=data,
    )
    return event_of(EventType.SIGN_IN_ENDED, actor=ADA, audience=[], text=envelope.model_dump_json())


async def test_the_end_of_a_session_ends_what_it_has_opened_and_nothing_else() -> None:
    manager = ConnectionManager()
    here, elsewhere, of_grace = uuid4(), uuid4(), uuid4()
    for actor, sign_in_id in ((ADA, here), (ADA, here), (ADA, elsewhere), (GRACE, of_grace)):
        manager.add(Connection(actor, sign_in_id=sign_in_id))

    manager.deliver(ended(here, of_grace))

    assert [each.sign_in_id for each in manager if each.is_ended] == [here, here]
    assert {each.close_code for each in manager if each.is_ended} == {4401}
    assert [queued(each) for each in manager] == [[]] * 4


async def test_who_comes_just_after_the_end_was_told_is_shown_out_too() -> None:
    """Their token was looked up before the end, and the event was delivered before they were here."""
    manager = ConnectionManager()
    sign_in_id = uuid4()
    manager.deliver(ended(sign_in_id))
    manager.deliver(event_of(EventType.ACCOUNT_DEACTIVATED, actor=GRACE, audience=[]))
    late = [Connection(ADA, sign_in_id=sign_in_id), Connection(GRACE, sign_in_id=uuid4())]
    others = [Connection(ADA, sign_in_id=uuid4()), Connection(ROOT)]

    for connection in (*late, *others):
        manager.add(connection)

    assert [(each.is_ended, each.close_code) for each in late] == [(True, 4401)] * 2
    assert [each.is_ended for each in others] == [False, False]


async def test_the_manager_knows_who_has_a_socket_until_the_last_one_goes() -> None:
    manager = ConnectionManager()
    one, two, other = await connect(manager, ADA), await connect(manager, ADA), await connect(manager, GRACE)
    assert (len(list(manager)), manager.users()) == (3, frozenset({ADA.id, GRACE.id}))

    manager.remove(one)
    manager.remove(one)
    assert (len(list(manager)), manager.users()) == (2, frozenset({ADA.id, GRACE.id}))

    manager.remove(two)
    assert (list(manager), manager.users()) == ([other], frozenset({GRACE.id}))

    manager.remove(other)
    assert (manager._by_user, manager._by_kind) == ({}, {})


async def test_what_is_gone_is_given_nothing() -> None:
    manager = ConnectionManager()
    gone = await connect(manager, ADA)
    manager.remove(gone)

    manager.deliver(event_of())

    assert queued(gone) == []


async def test_messages_are_written_in_their_order() -> None:
    network = FakeNetwork()
    connection = await connect(ConnectionManager(), ADA)
    texts = [str(number) for number in range(100)]

    for text in texts:
        connection.offer(Message(text))
    connection.end(1000)
    await write(connection, network)

    assert network.texts == texts


async def test_what_was_queued_before_the_end_is_still_written_and_what_comes_later_is_not() -> None:
    network = FakeNetwork()
    connection = await connect(ConnectionManager(), ADA)

    connection.offer(Message("before"))
    connection.end(1000)
    connection.offer(Message("after"))
    await write(connection, network)

    assert network.texts == ["before"]


async def test_the_first_reason_to_end_counts() -> None:
    connection = await connect(ConnectionManager(), ADA)

    connection.end(CloseCode.UNAUTHORIZED)
    connection.end(CloseCode.TRY_AGAIN_LATER)

    assert connection.close_code == 4401


async def test_a_full_queue_is_just_not_too_long() -> None:
    connection = await connect(ConnectionManager(), ADA)

    for _ in range(MAX_QUEUED_MESSAGES):
        connection.offer(Message("x"))

    assert not connection.is_ended
    assert len(queued(connection)) == MAX_QUEUED_MESSAGES


@pytest.mark.parametrize(
    "texts",
    [["x"] * (MAX_QUEUED_MESSAGES + 1), ["x" * (MAX_QUEUED_BYTES // 2)] * 2 + ["x"], ["x" * (MAX_QUEUED_BYTES + 1)]],
    ids=["too many", "too much", "too large"],
)
async def test_a_reader_that_is_too_far_behind_is_told_to_start_over(texts: list[str]) -> None:
    connection = await connect(ConnectionManager(), ADA)

    for text in texts:
        connection.offer(Message(text))

    assert queued(connection) == [RESYNC.text]
    assert (connection.is_ended, connection.close_code) == (True, 4008)


async def test_the_bound_is_in_bytes_also_for_texts_beyond_ascii() -> None:
    connection = await connect(ConnectionManager(), ADA)

    for _ in range(4):
        connection.offer(Message("🐝" * (MAX_QUEUED_BYTES // 12)))

    assert connection.close_code == 4008


async def test_what_was_written_makes_room_again() -> None:
    network = FakeNetwork()
    connection = await connect(ConnectionManager(), ADA)
    writing = asyncio.create_task(write(connection, network))

    for number in range(3 * MAX_QUEUED_MESSAGES):
        connection.offer(Message(f"{number:05}" * 1_000))
        if number % 100 == 99:
            await network.text(number)

    assert not connection.is_ended
    connection.end(1000)
    await writing
    assert len(network.texts) == 3 * MAX_QUEUED_MESSAGES


async def test_a_slow_reader_holds_nobody_else() -> None:
    manager = ConnectionManager()
    slow, quick = FakeNetwork(), FakeNetwork()
    connections = [await connect(manager, ADA), await connect(manager, GRACE)]
    networks = (slow, quick)
    writers = [asyncio.create_task(write(*pair)) for pair in zip(connections, networks, strict=True)]

    async def are_accepted() -> bool:
        return all(network.arrived for network in networks)

    await wait_until_async(are_accepted, what="both sockets")
    slow.is_reading.clear()

    for number in range(2 * MAX_QUEUED_MESSAGES):
        manager.deliver(event_of(text=str(number)))
        if number % 128 == 127:
            await quick.text(number)

    assert quick.texts == [str(number) for number in range(2 * MAX_QUEUED_MESSAGES)]
    assert slow.texts == []
    assert connections[0].close_code == CloseCode.TOO_SLOW
    slow.is_reading.set()
    connections[1].end(1000)
    await asyncio.gather(*writers)
    assert slow.texts == ["0", RESYNC.text]


async def test_what_can_be_written_at_once_waits_for_no_task() -> None:
    async with piped() as (connection, pipe):
        connection.offer(message := Message("now"))

        assert (pipe.frames, queued(connection)) == ([message.frames], [])


async def test_nothing_overtakes_what_is_queued_though_there_is_room_again() -> None:
    async with piped() as (connection, pipe):
        pipe.room.clear()
        connection.offer(Message("first"))
        pipe.room.set()
        # The reader's own task has had no turn yet.
        connection.offer(Message("second"))
        connection.end(1000)

    assert pipe.frames == [Message("first").frames, Message("second").frames]


async def test_nothing_overtakes_what_the_readers_own_task_is_at() -> None:
    async with piped() as (connection, pipe):
        pipe.room.clear()
        connection.offer(Message("first"))
        await wait_until_async(lambda: is_empty(connection), what="a task that waits for room")
        pipe.room.set()
        connection.offer(Message("second"))

    assert pipe.frames == [Message("first").frames, Message("second").frames]


async def is_empty(connection: Connection) -> bool:
    return not queued(connection)


async def test_a_socket_that_breaks_breaks_for_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async with piped() as (connection, pipe):

        def fail(_frames: bytes) -> bool:
            raise RuntimeError("the transport is closed")

        monkeypatch.setattr(pipe, "write_frames", fail)
        connection.offer(Message("not written"))

        assert queued(connection) == ["not written"]
        monkeypatch.undo()


async def test_who_waits_for_room_on_a_socket_that_closes_is_told() -> None:
    pipe = Pipe()
    pipe.room.clear()
    writing = asyncio.create_task(FrameLine(pipe).write(Message("too late")))
    await asyncio.sleep(0)
    pipe.is_open = False
    pipe.room.set()

    with pytest.raises(WebSocketDisconnect):
        async with asyncio.timeout(10):
            await writing
    assert pipe.frames == []


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

    async def read_backlog(_actor: Actor, after: LogPosition, _wanted: EventFilter, _limit: int) -> BacklogPage:
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
        async with asyncio.timeout(10):
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

    async with asyncio.timeout(10):
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


async def test_a_crowd_that_comes_and_goes_is_told_together(redis_url: str) -> None:
    redis = connect_redis(redis_url)
    manager = ConnectionManager()
    presence = Presence(redis, manager)

    async def has_been_written(number: int) -> bool:
        return len(pipe.frames) >= number

    async with piped(manager) as (_, pipe):
        crowd = [await connect(manager, Actor(uuid4())) for _ in range(40)]
        for _ in crowd:
            presence.sockets_changed()
        await wait_until_async(lambda: has_been_written(1), what="that they came")
        for gone in crowd:
            manager.remove(gone)
            presence.sockets_changed()
        await wait_until_async(lambda: has_been_written(2), what="that they went")

    assert [frames.count(b'"user.online"') for frames in pipe.frames] == [40, 0]
    assert [frames.count(b'"user.offline"') for frames in pipe.frames] == [0, 40]
    await redis.aclose()


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
