"""The queue of one reader, the way to its socket, and what happens to a reader that is too slow."""

import asyncio

import pytest
from starlette.websockets import WebSocketDisconnect

from app.websockets.connection import (
    MAX_QUEUED_BYTES,
    MAX_QUEUED_MESSAGES,
    CloseCode,
    Connection,
)
from app.websockets.connection_manager import ConnectionManager
from app.websockets.line import FrameLine
from app.websockets.message import RESYNC, Message
from tests.utils.readers import ADA, GRACE, Pipe, connect, event_of, piped, queued
from tests.utils.test_utils import PATIENCE, FakeNetwork, wait_until_async


async def write(connection: Connection, network: FakeNetwork) -> None:
    """Send what is queued until the end, as the socket's own task does."""
    websocket = network.websocket
    await websocket.accept()
    while (message := await connection.next_message()) is not None:
        await websocket.send_text(message.text)


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
        async with asyncio.timeout(PATIENCE):
            await writing
    assert pipe.frames == []
