"""What a process makes of a stream that it can't read, or that is ahead of the log, and of faults of its own."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from types import SimpleNamespace
from uuid import uuid4

import pytest
from sqlalchemy import update

from app.core.permissions import Actor
from app.core.redis import PrefixedRedis, connect_redis
from app.database import Database
from app.events import outbox
from app.events import stream as stream_module
from app.events.published import PublishedEvent, read_log, stream_key
from app.events.relay import number_events, publish_events
from app.events.stream import EventStream
from app.events.types import ChatMessage
from app.main import _begin_again_after_faults, _fan_out
from app.models import EventLog, EventType
from app.websockets.connection import CloseCode, Connection
from app.websockets.connection_manager import ConnectionManager
from app.websockets.parcel import Parcel
from tests.utils.databases import new_database
from tests.utils.test_utils import PATIENCE, wait_until_async

pytestmark = [pytest.mark.committed, pytest.mark.usefixtures("clean_redis")]

SOMEBODY = Actor(uuid4())


@pytest.fixture
async def database(servers: str) -> AsyncIterator[Database]:
    """One whose log is new: it has given no number yet."""
    async with new_database(servers, is_migrated=True) as url:
        database = Database.connect(url, application="tests", pool_size=5)
        yield database
        await database.close()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[PrefixedRedis]:
    redis = connect_redis(redis_url)
    yield redis
    await redis.aclose()


@pytest.fixture
async def stream(database: Database, redis: PrefixedRedis) -> EventStream:
    stream = EventStream(database, redis)
    assert await stream.begin() == 0
    return stream


async def write(database: Database, *messages: str) -> None:
    for message in messages:
        async with database.unit_of_work() as session:
            await outbox.record(session, ChatMessage(message=message), actor=SOMEBODY, audience=None)
    await number_events(database, limit=100)


async def key_of(database: Database, redis: PrefixedRedis) -> str:
    async with database.unit_of_work() as session:
        return stream_key(redis, (await read_log(session)).epoch)


async def follow(stream: EventStream, count: int) -> list[PublishedEvent]:
    told: list[PublishedEvent] = []
    async with asyncio.timeout(PATIENCE):
        async for events in stream.follow():
            told += events
            if len(told) >= count:
                break
    return told


async def test_an_entry_that_can_not_be_read_is_read_from_the_log(
    database: Database, redis: PrefixedRedis, stream: EventStream
) -> None:
    """Such as one of another version, during an update."""
    await redis.xadd(await key_of(database, redis), {"envelope": "{}"}, id="1-0")
    await write(database, "one", "two")
    async with database.unit_of_work() as session:
        await session.execute(update(EventLog).values(published_seq=1))
    await publish_events(database, redis, limit=100)

    told = await follow(stream, 2)

    assert [event.envelope().data["message"] for event in told] == ["one", "two"]


async def test_the_stream_has_only_the_place_of_a_large_event(
    database: Database, redis: PrefixedRedis, stream: EventStream
) -> None:
    await write(database, "small", "large " * 2_000, "small again")
    await publish_events(database, redis, limit=100)

    told = await follow(stream, 3)

    assert [event.seq for event in told] == [1, 2, 3]
    assert told[1].envelope().data["message"] == "large " * 2_000
    assert 0 < (await redis.memory_usage(await key_of(database, redis), samples=0) or 0) < 8_000


async def test_what_is_beyond_the_log_is_not_looked_for_without_a_pause(
    database: Database, redis: PrefixedRedis, stream: EventStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    stray = PublishedEvent(99, EventType.CHAT_MESSAGE, SOMEBODY.id, None, None, "{}", uuid4())
    await redis.xadd(await key_of(database, redis), stray.to_stream(), id="99-0")
    steps: list[str] = []
    look = stream._read_log

    async def note_look() -> Sequence[PublishedEvent]:
        steps.append("look")
        return await look()

    async def note_pause(seconds: float) -> None:
        steps.append("pause")
        await asyncio.sleep(seconds)

    async def has_looked_often() -> bool:
        return len(steps) >= 4

    stream._read_log = note_look  # type: ignore[method-assign]
    monkeypatch.setattr(stream_module, "asyncio", SimpleNamespace(sleep=note_pause))

    async def follow() -> None:
        async for _ in stream.follow():
            pass

    following = asyncio.create_task(follow())

    await wait_until_async(has_looked_often, what="two looks")
    assert steps[:4] == ["look", "pause", "look", "pause"]
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


class FailsOnce(ConnectionManager):
    """Breaks when it has given the first two events to its first reader alone."""

    has_failed = False

    async def deliver_batch(self, events: Iterable[PublishedEvent]) -> None:
        if not self.has_failed:
            self.has_failed = True
            first = next(iter(self))
            first.take(Parcel(list(events)[:2]).share_of(first.actor.visibility, first.wanted))
            raise RuntimeError
        await super().deliver_batch(events)


async def test_a_fault_within_a_batch_loses_and_repeats_no_event(
    database: Database, redis: PrefixedRedis, stream: EventStream
) -> None:
    manager = FailsOnce()
    readers = [Connection(SOMEBODY) for _ in range(2)]
    for reader in readers:
        manager.add(reader)
    manager.follow_from(0)
    await write(database, "one", "two", "three")
    await publish_events(database, redis, limit=100)
    following = asyncio.create_task(_begin_again_after_faults(lambda: _fan_out(stream, manager)))

    for reader in readers:
        async with asyncio.timeout(PATIENCE):
            messages = [await reader.next_message() for _ in range(3)]
        assert [message.seq for message in messages if message] == [1, 2, 3]

    assert manager.has_failed
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


def test_a_reader_whose_account_ended_while_it_signed_in_is_closed() -> None:
    """The account was read, then it was deactivated and all were told so, and then the reader came."""
    manager = ConnectionManager()
    late, other = Connection(SOMEBODY), Connection(Actor(uuid4()))

    manager.deliver(PublishedEvent(1, EventType.ACCOUNT_DEACTIVATED, SOMEBODY.id, None, [], "{}"))
    for reader in (late, other):
        manager.add(reader)

    assert (late.is_ended, late.close_code) == (True, CloseCode.UNAUTHORIZED)
    assert not other.is_ended
