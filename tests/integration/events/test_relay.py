"""The relay: numbers in the order of commits, nothing skipped, nothing lost between its steps."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.permissions import Actor
from app.core.redis import PrefixedRedis, connect_redis
from app.database import Database
from app.db.pool import Connections
from app.db.transaction import Transaction
from app.events import outbox
from app.events.due_jobs import DueJob
from app.events.jobs import ask_for_job
from app.events.published import PublishedEvent, read_log, stream_key
from app.events.relay import Relay, number_events, publish_events
from app.events.stream import EventStream
from app.events.types import ChatMessage
from app.models import Event, EventLog, Job, JobName, JobState, User
from tests.utils.driver_connections import NotingConnections
from tests.utils.jobs import job_in
from tests.utils.test_utils import PATIENCE, nothing_queued, wait_for_free_lock

pytestmark = [pytest.mark.committed, pytest.mark.usefixtures("clean_redis")]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[PrefixedRedis]:
    redis = connect_redis(redis_url)
    yield redis
    await redis.aclose()


async def say(transaction: Transaction, user: User, message: str) -> None:
    await outbox.record(transaction, ChatMessage(message=message), actor=Actor.of(user), audience=None)


async def say_committed(database: Database, user: User, *messages: str) -> None:
    for message in messages:
        async with database.unit_of_work() as session:
            await say(session, user, message)


async def numbered(database: Database) -> list[tuple[int, str]]:
    """The log by number: each event's message."""
    async with database.unit_of_work() as session:
        events = await session.scalars(select(Event).where(Event.seq.is_not(None)).order_by(Event.seq))
        return [(event.seq or 0, event.data["message"]) for event in events]


async def entries(redis: PrefixedRedis, database: Database) -> list[tuple[str, str]]:
    """The stream: the id and the message of each entry."""
    async with database.unit_of_work() as session:
        key = stream_key(redis, (await read_log(session)).epoch)
    found: Any = await redis.xrange(key)
    return [(entry, json.loads(fields["event"])["data"]["message"]) for entry, fields in found]


async def start_of(database: Database) -> int:
    async with database.unit_of_work() as session:
        return (await read_log(session)).last_seq


async def test_a_transaction_that_commits_late_is_not_skipped(database: Database, user: User) -> None:
    start = await start_of(database)
    slow = database.unit_of_work()
    session = await slow.__aenter__()
    await say(session, user, "written first, committed last")
    await say_committed(database, user, "written last, committed first")

    assert await number_events(database, limit=10) == 1
    await slow.__aexit__(None, None, None)
    assert await number_events(database, limit=10) == 1

    assert await numbered(database) == [
        (start + 1, "written last, committed first"),
        (start + 2, "written first, committed last"),
    ]


async def test_numbers_rise_without_gaps_also_after_a_rollback(database: Database, user: User) -> None:
    start = await start_of(database)
    await say_committed(database, user, "one")
    with pytest.raises(ZeroDivisionError):
        async with database.unit_of_work() as session:
            await say(session, user, "never said")
            raise ZeroDivisionError
    await say_committed(database, user, "two", "three")

    assert await number_events(database, limit=2) == 2
    assert await number_events(database, limit=2) == 1
    assert await number_events(database, limit=2) == 0

    assert await numbered(database) == [(start + 1, "one"), (start + 2, "two"), (start + 3, "three")]


async def test_two_relays_at_once_give_each_number_once(database: Database, user: User) -> None:
    start = await start_of(database)
    await say_committed(database, user, *(str(n) for n in range(20)))

    counts = await asyncio.gather(*(number_events(database, limit=20) for _ in range(4)))

    assert sum(counts) == 20
    assert [seq for seq, _ in await numbered(database)] == list(range(start + 1, start + 21))


async def test_an_event_takes_few_statements_and_none_waiting_fewer(
    driver_connections: Connections,
    redis: PrefixedRedis,
    user: User,
) -> None:
    sent: list[str] = []
    database = Database(NotingConnections(driver_connections, lambda sql, _: sent.append(sql)))

    async def count(relay: Callable[[], Awaitable[int]]) -> tuple[int, int]:
        sent.clear()
        return await relay(), len(sent)

    async def number() -> int:
        return await number_events(database, limit=10)

    async def publish() -> int:
        return await publish_events(database, redis, limit=10)

    await say_committed(database, user, "hello")
    # The lock, which events, their numbers, the end of the log; what to publish, how far that came.
    assert await count(number) == (1, 4)
    assert await count(publish) == (False, 2)

    assert await count(number) == (0, 1)
    assert await count(publish) == (False, 1)


async def test_large_events_are_published_few_at_a_time_and_all_of_them(
    database: Database, redis: PrefixedRedis, user: User
) -> None:
    start = await start_of(database)
    messages = ["x" * 1_000] * 4 + ["short"] * 3
    await say_committed(database, user, *messages)
    await number_events(database, limit=10)

    reached, has_more = [start], True
    while has_more:
        has_more = await publish_events(database, redis, limit=10, most_bytes=2_500)
        async with database.unit_of_work() as session:
            reached.append((await read_log(session)).published_seq)

    # One may go past the bound.
    assert [later - earlier for earlier, later in pairwise(reached)] == [2, 2, 3]
    assert [message for _, message in await entries(redis, database)] == messages


async def test_publishing_again_after_a_crash_repeats_nothing_in_the_stream(
    database: Database, redis: PrefixedRedis, user: User
) -> None:
    start = await start_of(database)
    await say_committed(database, user, "one", "two")
    await number_events(database, limit=10)
    await publish_events(database, redis, limit=10)
    # As if the relay had died before it noted how far it came.
    async with database.unit_of_work() as session:
        await session.execute(update(EventLog).values(published_seq=start))

    assert not await publish_events(database, redis, limit=10)

    assert await entries(redis, database) == [(f"{start + 1}-0", "one"), (f"{start + 2}-0", "two")]
    async with database.unit_of_work() as session:
        assert (await read_log(session)).published_seq == start + 2


async def test_what_was_written_while_redis_was_away_goes_out_when_it_is_back(
    database: Database, redis: PrefixedRedis, user: User
) -> None:
    start = await start_of(database)
    away = connect_redis("unix:///nowhere/at-all.sock")

    async def send_nothing(_jobs: Sequence[DueJob]) -> None:
        raise AssertionError("there are no jobs")

    await say_committed(database, user, "meanwhile")
    await Relay(database, away, send_nothing, nothing_queued).relay_events(database)
    assert [message for _, message in await numbered(database)] == ["meanwhile"]
    assert await entries(redis, database) == []

    await Relay(database, redis, send_nothing, nothing_queued).relay_events(database)

    assert await entries(redis, database) == [(f"{start + 1}-0", "meanwhile")]
    await away.aclose()


async def test_jobs_are_sent_after_the_commit_and_again_when_they_are_late(
    database: Database, redis: PrefixedRedis, session: AsyncSession
) -> None:
    sent: list[DueJob] = []

    async def send(jobs: Sequence[DueJob]) -> None:
        sent.extend(jobs)

    relay = Relay(database, redis, send, nothing_queued)
    async with database.unit_of_work() as transaction:
        asked = ask_for_job(transaction, JobName.TEST, message="hello")
        await transaction.flush()
        await relay.relay_jobs()
        assert sent == []

    await relay.relay_jobs()
    await relay.relay_jobs()

    assert sent == [DueJob(asked.id, "test_celery_task", {"message": "hello"})]
    row = await session.get_one(Job, asked.id)
    assert (row.state, row.sends) == (JobState.SENT, 1)
    assert row.run_after > row.created_at
    await session.execute(update(Job).values(run_after=func.now()))
    await session.commit()
    await relay.relay_jobs()
    assert len(sent) == 2


async def test_jobs_wait_in_their_rows_while_the_broker_is_away(
    database: Database, redis: PrefixedRedis, session: AsyncSession
) -> None:
    async def fail(_jobs: Sequence[DueJob]) -> None:
        raise RedisConnectionError("away")

    job = await job_in(database, session, JobName.TEST)

    await Relay(database, redis, fail, nothing_queued).relay_jobs()

    await session.refresh(job)
    assert (job.state, job.sends) == (JobState.WAITING, 0)
    assert job.run_after > job.created_at


async def test_only_one_relay_leads(database_url: str) -> None:
    first, second = (Database.connect(database_url, application="tests", pool_size=1) for _ in range(2))
    lock = uuid4().int % 2**62

    async with first.exclusively(lock) as ours:
        assert ours is not None
        async with second.exclusively(lock) as theirs:
            assert theirs is None
    await wait_for_free_lock(second, lock)
    await first.close()
    await second.close()


async def follow(stream: EventStream, count: int) -> list[PublishedEvent]:
    found: list[PublishedEvent] = []
    async for events in stream.follow():
        found += events
        if len(found) >= count:
            break
    return found


async def test_a_reader_gets_from_the_log_what_the_stream_has_lost(
    database: Database, redis: PrefixedRedis, user: User
) -> None:
    start = await start_of(database)
    stream = EventStream(database, redis)
    assert await stream.begin() == start
    reading = asyncio.create_task(follow(stream, 4))

    await say_committed(database, user, "one", "two")
    await number_events(database, limit=10)
    # These two never reach the stream.
    async with database.unit_of_work() as session:
        await session.execute(update(EventLog).values(published_seq=start + 2))
    await say_committed(database, user, "three", "four")
    await number_events(database, limit=10)
    await publish_events(database, redis, limit=10)

    async with asyncio.timeout(PATIENCE):
        events = await reading
    assert [event.seq for event in events] == [start + 1, start + 2, start + 3, start + 4]
    assert [json.loads(event.text)["data"]["message"] for event in events] == ["one", "two", "three", "four"]


async def test_a_reader_goes_on_while_redis_is_away(database: Database, user: User) -> None:
    away = connect_redis("unix:///nowhere/at-all.sock")
    stream = EventStream(database, away)
    await stream.begin()
    reading = asyncio.create_task(follow(stream, 1))

    await say_committed(database, user, "still here")
    await number_events(database, limit=10)

    async with asyncio.timeout(PATIENCE):
        [event] = await reading
    assert json.loads(event.text)["data"]["message"] == "still here"
    await away.aclose()
