"""The log's two ends in time: what is past its keep time, and histories that a restored database has lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app import embedded
from app.core.permissions import Actor
from app.core.redis import PrefixedRedis, connect_redis
from app.database import Database
from app.events import outbox
from app.events.backlog import BacklogPage, LogPosition, PageSize, Resync, read_backlog
from app.events.filters import EVERYTHING
from app.events.history import STRIDE, renew_if_restored
from app.events.published import PublishedEvent, read_log, stream_key
from app.events.relay import HistoryEnded, number_events, publish_events
from app.events.retention import purge_events
from app.events.stream import EventStream
from app.events.types import ChatMessage
from app.models import Event, EventLog, EventType, TaskStatus, User
from app.schemas.task import TaskCreate
from app.services import TaskService
from tests.builders.users import create_user
from tests.utils.databases import new_database, run_sql
from tests.utils.processes import HiveProcess
from tests.utils.test_utils import wait_until_async

pytestmark = [pytest.mark.committed, pytest.mark.usefixtures("clean_redis")]

KEEP = timedelta(days=30)


@asynccontextmanager
async def copy_of(url: str, servers: str) -> AsyncIterator[str]:
    """A copy of the database, on the same server."""
    source = url.partition("?")[0].rpartition("/")[2]
    server = embedded.database_url(servers)
    await run_sql(server, f"CREATE DATABASE copy_of_{source} TEMPLATE {source}")
    yield url.replace(source, f"copy_of_{source}")
    await run_sql(server, f"DROP DATABASE copy_of_{source} WITH (FORCE)")


@pytest.fixture
async def url(servers: str) -> AsyncIterator[str]:
    """A database whose log is new, and which can be copied and given back."""
    async with new_database(servers, is_migrated=True) as url:
        yield url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database.connect(url, application="tests", pool_size=5)
    yield database
    await database.close()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[PrefixedRedis]:
    redis = connect_redis(redis_url)
    yield redis
    await redis.aclose()


@pytest.fixture
async def actor(database: Database) -> Actor:
    async with database.unit_of_work() as session:
        user: User = await create_user(session)
    return Actor.of(user)


async def write(database: Database, actor: Actor, *messages: str) -> None:
    for message in messages:
        async with database.unit_of_work() as session:
            await outbox.record(session, ChatMessage(message=message), actor=actor, audience=None)


async def say(database: Database, redis: PrefixedRedis, actor: Actor, *messages: str) -> None:
    """Write events and publish them."""
    await write(database, actor, *messages)
    await number_events(database, limit=100)
    await publish_events(database, redis, limit=100)


async def read(database: Database, actor: Actor, place: LogPosition) -> BacklogPage:
    async with database.unit_of_work() as session:
        return await read_backlog(session, actor, after=place, size=PageSize(100), wanted=EVERYTHING)


async def state_of(database: Database) -> EventLog:
    async with database.unit_of_work() as session:
        return await read_log(session)


async def first_of_history(database: Database) -> int:
    """The number of the event that began the present history, far above those before."""
    async with database.unit_of_work() as session:
        [first] = await session.scalars(select(Event.seq).where(Event.type == EventType.LOG_RENEWED))
    assert first is not None
    assert first > STRIDE
    return first


async def make_old(database: Database, *seqs: int) -> None:
    async with database.unit_of_work() as session:
        old = func.now() - KEEP - timedelta(minutes=1)
        await session.execute(update(Event).where(Event.seq.in_(seqs)).values(created_at=old))


async def purge(database: Database) -> bool:
    async with database.unit_of_work() as session:
        return await purge_events(session, keep=KEEP)


async def purge_all(database: Database) -> None:
    """As the job does, which asks for itself again while there is more to do."""
    while await purge(database):
        pass


async def seqs_in(database: Database) -> list[int | None]:
    async with database.unit_of_work() as session:
        return list(await session.scalars(select(Event.seq).order_by(Event.seq)))


async def test_what_is_past_its_keep_time_goes_and_is_never_replayed_in_part(
    database: Database, redis: PrefixedRedis, actor: Actor
) -> None:
    await say(database, redis, actor, "one", "two", "three", "four")
    await make_old(database, 1, 2)

    assert await purge(database)
    assert not await purge(database)

    assert await seqs_in(database) == [3, 4]
    for place in (0, 1):
        with pytest.raises(Resync):
            await read(database, actor, LogPosition(place))
    assert [event.seq for event in (await read(database, actor, LogPosition(2))).events] == [3, 4]


async def test_an_old_event_after_a_young_one_waits_for_it(
    database: Database, redis: PrefixedRedis, actor: Actor
) -> None:
    await say(database, redis, actor, "one", "two", "three")
    await make_old(database, 1, 3)

    await purge_all(database)

    assert (await state_of(database)).purged_seq == 1
    assert await seqs_in(database) == [2, 3]


async def test_all_may_be_old(database: Database, redis: PrefixedRedis, actor: Actor) -> None:
    await say(database, redis, actor, "one", "two")
    await make_old(database, 1, 2)

    await purge_all(database)

    assert await seqs_in(database) == []
    page = await read(database, actor, LogPosition(2))
    assert (page.events, page.reached, page.head) == ([], 2, 2)
    await say(database, redis, actor, "three")
    assert [event.seq for event in (await read(database, actor, LogPosition(2))).events] == [3]


async def test_the_history_of_a_task_stays_as_long_as_the_task(
    database: Database, redis: PrefixedRedis, actor: Actor
) -> None:
    async with database.unit_of_work() as session:
        kept = await TaskService(session).create(actor, TaskCreate(title="Kept", status=TaskStatus.AVAILABLE))
        gone = await TaskService(session).create(actor, TaskCreate(title="Gone", status=TaskStatus.AVAILABLE))
    async with database.unit_of_work() as session:
        await TaskService(session).delete(actor, gone.id)
    await say(database, redis, actor, "chat")
    await make_old(database, 1, 2, 3, 4)

    await purge_all(database)

    async with database.unit_of_work() as session:
        assert list(await session.scalars(select(Event.task_id))) == [kept.id]
    with pytest.raises(Resync):
        await read(database, actor, LogPosition(0))
    async with database.unit_of_work() as session:
        await TaskService(session).delete(actor, kept.id)
    await purge_all(database)
    async with database.unit_of_work() as session:
        types = list(await session.scalars(select(Event.type)))
    assert types == [EventType.TASK_DELETED]


async def test_a_place_in_another_history_is_refused(database: Database, redis: PrefixedRedis, actor: Actor) -> None:
    await say(database, redis, actor, "one", "two")
    epoch = (await read(database, actor, LogPosition(1))).epoch

    assert len((await read(database, actor, LogPosition(1, epoch))).events) == 1
    with pytest.raises(Resync):
        await read(database, actor, LogPosition(1, actor.id))
    with pytest.raises(Resync):
        await read(database, actor, LogPosition(3))


async def test_a_log_that_is_where_it_was_written_goes_on(
    database: Database, redis: PrefixedRedis, actor: Actor
) -> None:
    await say(database, redis, actor, "one")
    before = (await state_of(database)).epoch

    assert [await renew_if_restored(database, redis) for _ in range(3)] == [False] * 3
    await redis.flushdb()
    assert not await renew_if_restored(database, redis)

    after = await state_of(database)
    assert (after.epoch, after.last_seq, after.lost) == (before, 1, [])
    assert after.origin.count("/") == 3


async def test_a_restored_backup_begins_a_new_history(
    database: Database, redis: PrefixedRedis, actor: Actor, url: str, servers: str
) -> None:
    """A copy of the database, as `pg_restore` makes one, beside a Redis that has seen what the copy has not."""
    await renew_if_restored(database, redis)
    await say(database, redis, actor, "kept")
    earlier = (await state_of(database)).epoch
    await database.close()
    async with copy_of(url, servers) as copy:
        await say(database, redis, actor, "lost", "lost too")
        restored = Database.connect(copy, application="tests", pool_size=5)
        stream = EventStream(restored, redis)

        assert await renew_if_restored(restored, redis)
        assert not await renew_if_restored(restored, redis)

        assert not await redis.exists(stream_key(redis, earlier))
        await say(restored, redis, actor, "new")
        # Who stands where both histories are the same goes on; who has read what is lost may not.
        page = await read(restored, actor, LogPosition(1))
        first = await first_of_history(restored)
        assert [event.seq for event in page.events] == [first + 1]
        assert page.epoch != earlier
        for lost in (2, 3):
            with pytest.raises(Resync):
                await read(restored, actor, LogPosition(lost))
        assert (await read(restored, actor, LogPosition(first))).head == first + 1
        assert await stream.begin() == first + 1
        await restored.close()


async def test_an_old_copy_of_the_disk_is_known_by_its_stream(
    database: Database, redis: PrefixedRedis, actor: Actor
) -> None:
    """Server and table are as before, so only the stream tells that there was more."""
    await renew_if_restored(database, redis)
    await say(database, redis, actor, "kept", "lost")
    await forget_after(database, 1)

    assert await renew_if_restored(database, redis)

    assert (await state_of(database)).lost == [[1, await first_of_history(database)]]


async def test_a_copy_of_the_files_is_known_when_it_is_said(
    database: Database, redis: PrefixedRedis, actor: Actor, url: str, hive_environment: dict[str, str]
) -> None:
    await renew_if_restored(database, redis)
    await say(database, redis, actor, "kept", "lost")
    await redis.flushdb()
    await forget_after(database, 1)
    assert not await renew_if_restored(database, redis)

    with HiveProcess(["-m", "app.cli", "restored"], hive_environment | {"DATABASE_URL": url}) as command:
        assert (command.wait(), command.output) == (0, "A new history of events begins when the relay starts.\n")

    assert await renew_if_restored(database, redis)
    assert (await state_of(database)).lost == [[1, await first_of_history(database)]]


async def test_the_same_number_of_another_event_is_another_history(
    database: Database, redis: PrefixedRedis, actor: Actor
) -> None:
    await renew_if_restored(database, redis)
    await say(database, redis, actor, "kept", "lost")
    await forget_after(database, 1)
    async with database.unit_of_work() as session:
        await outbox.record(session, ChatMessage(message="new"), actor=actor, audience=None)
    await number_events(database, limit=10)

    assert await renew_if_restored(database, redis)


async def test_no_number_is_given_twice_when_the_same_backup_is_restored_twice(
    database: Database, redis: PrefixedRedis, actor: Actor, url: str, servers: str
) -> None:
    await renew_if_restored(database, redis)
    await say(database, redis, actor, "kept")
    await database.close()
    seqs: list[set[int | None]] = []
    for _ in range(2):
        async with copy_of(url, servers) as copy:
            restored = Database.connect(copy, application="tests", pool_size=5)
            assert await renew_if_restored(restored, redis)
            await say(restored, redis, actor, "three", "four")
            if seqs:
                with pytest.raises(Resync):
                    await read(restored, actor, LogPosition(max(seq or 0 for seq in seqs[0])))
            seqs.append(set(await seqs_in(restored)) - {1})
            await restored.close()

    assert seqs[0].isdisjoint(seqs[1])


async def test_an_older_database_is_noticed_when_redis_comes_back_later(
    database: Database, redis: PrefixedRedis, actor: Actor
) -> None:
    """PostgreSQL came back from an older copy of its disk, and Redis was not up yet when the relay took the lead."""
    await renew_if_restored(database, redis)
    await say(database, redis, actor, "kept", "lost two", "lost three")
    await forget_after(database, 1)
    nowhere = connect_redis("unix:///nowhere/at-all.sock")
    assert not await renew_if_restored(database, nowhere)
    stream = EventStream(database, nowhere)
    await stream.begin()
    await nowhere.aclose()
    stream._redis = redis  # It's back.
    await write(database, actor, "new two", "new three")
    await number_events(database, limit=100)
    with pytest.raises(HistoryEnded):
        await publish_events(database, redis, limit=100)
    assert await renew_if_restored(database, redis)
    await publish_events(database, redis, limit=100)

    told: list[PublishedEvent] = []
    async for events in stream.follow():
        told += events
        if any(event.type == EventType.LOG_RENEWED for event in events):
            break

    assert [event.envelope().data.get("message") for event in told[:-1]] == ["new two", "new three"]
    # Their numbers were told of others before, so whoever has read them may not go on from there.
    assert (await state_of(database)).lost == [[1, told[-1].seq]]


async def test_a_process_that_follows_tells_its_readers_and_goes_on(
    database: Database, redis: PrefixedRedis, actor: Actor
) -> None:
    await renew_if_restored(database, redis)
    await say(database, redis, actor, "one", "lost")
    stream = EventStream(database, redis)
    await stream.begin()
    await forget_after(database, 1)
    await renew_if_restored(database, redis)
    await say(database, redis, actor, "new")

    seen: list[Any] = []
    async for events in stream.follow():
        seen += events
        if len(seen) >= 2:
            break

    first = await first_of_history(database)
    assert [(event.seq, event.type) for event in seen] == [(first, "log.renewed"), (first + 1, "chat.message")]


async def test_nobody_follows_a_stream_of_another_history(
    database: Database, redis: PrefixedRedis, actor: Actor
) -> None:
    """Until the relay has begun a new one, the stream would tell what this database has lost."""
    await renew_if_restored(database, redis)
    await say(database, redis, actor, "kept", "lost")
    await forget_after(database, 1)
    stream, looks = EventStream(database, redis), []
    look = stream._is_of_this_history

    async def note_look() -> bool:
        looks.append(await look())
        return looks[-1]

    async def has_looked_twice() -> bool:
        return len(looks) > 1

    stream._is_of_this_history = note_look  # type: ignore[method-assign]
    beginning = asyncio.create_task(stream.begin())
    await wait_until_async(has_looked_twice, what="two looks at the history")
    assert not any(looks)
    assert not beginning.done()

    await renew_if_restored(database, redis)

    async def has_begun() -> bool:
        return beginning.done()

    await wait_until_async(has_begun, what="the stream to begin")
    assert beginning.result() == await first_of_history(database)


async def forget_after(database: Database, seq: int) -> None:
    """As an old copy of the disk would: the rows and the count are what they were."""
    async with database.unit_of_work() as session:
        for event in await session.scalars(select(Event).where(Event.seq > seq)):
            await session.delete(event)
        await session.execute(update(EventLog).values(last_seq=seq, published_seq=seq))
