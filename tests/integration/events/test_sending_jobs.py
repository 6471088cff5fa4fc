"""Which jobs the relay sends, and when again: what may have been lost, and no more than a queue has room for."""

import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy import func, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import embedded
from app.config import Settings
from app.core.redis import PrefixedRedis, connect_redis
from app.database import Database
from app.db.pool import Connections
from app.db.transaction import Transaction
from app.events.due_jobs import PATIENCE, PATIENCE_WITH_EMPTY_QUEUE, DueJob, QueueName
from app.events.jobs import ask_for_job
from app.events.relay import MOST_QUEUED_JOBS, POLL_SECONDS, Relay
from app.models import Job, JobName, JobState, Lane
from app.services.job_service import perform
from app.workers.carrier import CeleryCarrier
from tests.utils.driver_connections import NotingConnections
from tests.utils.jobs import job_in
from tests.utils.test_utils import nothing_queued

pytestmark = pytest.mark.committed


class Queue:
    """A carrier's queue, with the messages that nobody has taken yet."""

    def __init__(self) -> None:
        self.messages: list[UUID] = []

    async def send(self, jobs: Sequence[DueJob]) -> None:
        self.messages += [job.id for job in jobs]

    async def count(self, name: QueueName = QueueName.MAIN) -> int:
        return len(self.messages) if name is QueueName.MAIN else 0


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[PrefixedRedis]:
    redis = connect_redis(redis_url)
    yield redis
    await redis.aclose()


@pytest.fixture
def relay(database: Database, redis: PrefixedRedis, queue: Queue) -> Relay:
    return Relay(database, redis, queue.send, queue.count)


async def create_job(session: AsyncSession, **values: Any) -> Job:
    job = Job(name=JobName.TEST, arguments={}, **values)
    session.add(job)
    await session.commit()
    return job


async def create_sent_job(session: AsyncSession, *, ago: timedelta, **values: Any) -> Job:
    """One whose first message was sent that long ago."""
    late_at = datetime.now(UTC) - ago + PATIENCE
    return await create_job(session, state=JobState.SENT, **{"sends": 1, "run_after": late_at, **values})


async def test_what_an_empty_queue_has_lost_is_sent_again_soon(
    session: AsyncSession, relay: Relay, queue: Queue
) -> None:
    job = await create_sent_job(session, ago=PATIENCE_WITH_EMPTY_QUEUE)

    await relay.relay_jobs()

    assert queue.messages == [job.id]
    await session.refresh(job)
    assert (job.state, job.sends) == (JobState.SENT, 2)


async def test_what_was_just_sent_is_given_time_to_get_to_a_worker(
    session: AsyncSession, relay: Relay, queue: Queue
) -> None:
    await create_sent_job(session, ago=PATIENCE_WITH_EMPTY_QUEUE / 3)

    await relay.relay_jobs()

    assert queue.messages == []


async def test_what_may_be_waiting_in_the_queue_is_sent_again_only_when_it_is_late(
    session: AsyncSession, relay: Relay, queue: Queue
) -> None:
    queue.messages = [somebody_elses := uuid4()]
    job = await create_sent_job(session, ago=PATIENCE - timedelta(seconds=5))

    await relay.relay_jobs()
    assert queue.messages == [somebody_elses]
    await session.execute(update(Job).values(run_after=func.now()))
    await session.commit()
    await relay.relay_jobs()

    assert queue.messages == [somebody_elses, job.id]


async def test_patience_does_not_grow_with_each_sending(session: AsyncSession, relay: Relay) -> None:
    """Or a job whose messages were lost several times would wait for a long time after all is well again."""
    job = await create_sent_job(session, ago=PATIENCE, sends=9)

    await relay.relay_jobs()

    await session.refresh(job)
    assert job.sends == 10
    assert (job.run_after - datetime.now(UTC)) / PATIENCE == pytest.approx(1, abs=0.3)


async def test_a_job_that_a_worker_is_at_is_not_sent_again(
    session: AsyncSession, database: Database, relay: Relay, queue: Queue
) -> None:
    job = await create_sent_job(session, ago=PATIENCE * 2)
    sent_meanwhile: list[UUID] = []

    async def effect(_work: Transaction) -> None:
        await relay.relay_jobs()
        sent_meanwhile.extend(queue.messages)

    await perform(database, job.id, effect)

    assert sent_meanwhile == []
    await session.refresh(job)
    assert job.state is JobState.DONE


async def test_a_job_that_is_held_is_sent_again_when_the_hold_is_over(
    session: AsyncSession, relay: Relay, queue: Queue
) -> None:
    job = await create_sent_job(session, ago=PATIENCE * 2, held_until=datetime.now(UTC) + timedelta(minutes=1))

    await relay.relay_jobs()
    assert queue.messages == []
    await session.execute(update(Job).values(held_until=func.now()))
    await session.commit()
    await relay.relay_jobs()

    assert queue.messages == [job.id]


async def test_the_pause_after_a_failure_holds_whatever_the_queue_is_like(
    session: AsyncSession, relay: Relay, queue: Queue
) -> None:
    await create_job(session, run_after=datetime.now(UTC) + timedelta(seconds=2))

    await relay.relay_jobs()

    assert queue.messages == []


async def test_a_queue_gets_no_more_than_it_has_room_for(session: AsyncSession, relay: Relay, queue: Queue) -> None:
    waiting = [uuid4() for _ in range(MOST_QUEUED_JOBS - 1)]
    queue.messages = [*waiting]
    now = datetime.now(UTC)
    second, first = [await create_job(session, run_after=now - timedelta(seconds=age)) for age in (1, 2)]

    await relay.relay_jobs()
    await relay.relay_jobs()
    assert queue.messages == [*waiting, first.id]
    await session.refresh(second)
    assert (second.state, second.sends) == (JobState.WAITING, 0)
    queue.messages = []
    await relay.relay_jobs()

    assert queue.messages == [second.id]


async def test_jobs_are_left_as_they_are_when_the_broker_can_not_say_how_many_it_has(
    session: AsyncSession, database: Database, redis: PrefixedRedis, queue: Queue
) -> None:
    async def fail(_queue: QueueName) -> int:
        raise RedisConnectionError("away")

    job = await create_job(session)
    before = job.run_after

    await Relay(database, redis, queue.send, fail).relay_jobs()

    assert queue.messages == []
    await session.refresh(job)
    assert (job.state, job.sends, job.run_after) == (JobState.WAITING, 0, before)


async def test_sending_jobs_costs_one_statement_however_many_there_are(
    session: AsyncSession, driver_connections: Connections, redis: PrefixedRedis, queue: Queue
) -> None:
    jobs = [await create_job(session) for _ in range(3)]
    sent: list[str] = []

    noting = NotingConnections(driver_connections, lambda sql, _: sent.append(sql))
    await Relay(Database(noting), redis, queue.send, queue.count).relay_jobs()

    assert set(queue.messages) == {job.id for job in jobs}
    assert len(sent) == 1, "\n".join(sent)


async def test_the_broker_is_not_asked_for_each_job_and_asked_again_in_time(
    session: AsyncSession, database: Database, redis: PrefixedRedis, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    times_counted = 0

    async def count(_queue: QueueName) -> int:
        nonlocal times_counted
        times_counted += 1
        return len(queue.messages)

    relay = Relay(database, redis, queue.send, count)
    jobs = []
    for _ in range(3):
        jobs.append(await create_job(session))
        await relay.relay_jobs()
    assert (queue.messages, times_counted) == ([job.id for job in jobs], 1)

    later = time.monotonic() + POLL_SECONDS
    monkeypatch.setattr("app.events.queue_length.monotonic", lambda: later)
    await relay.relay_jobs()

    assert times_counted == 2


async def test_after_a_failure_the_broker_is_asked_before_any_more_jobs_are_taken(
    session: AsyncSession, database: Database, redis: PrefixedRedis, queue: Queue
) -> None:
    is_away = False

    async def send(jobs: Sequence[DueJob]) -> None:
        if is_away:
            raise RedisConnectionError("away")
        await queue.send(jobs)

    async def count(_queue: QueueName) -> int:
        if is_away:
            raise RedisConnectionError("away")
        return await queue.count()

    relay = Relay(database, redis, send, count)
    await relay.relay_jobs()
    is_away = True
    taken = await create_job(session)
    await relay.relay_jobs()
    spared = await create_job(session)
    await relay.relay_jobs()

    await session.refresh(taken)
    await session.refresh(spared)
    assert (taken.state, taken.sends, taken.run_after > taken.created_at) == (JobState.WAITING, 0, True)
    assert (spared.state, spared.run_after) == (JobState.WAITING, spared.created_at)


@pytest.mark.parametrize("is_due", [True, False])
async def test_a_broker_that_is_away_is_told_of_only_when_jobs_wait_for_it(
    session: AsyncSession,
    database: Database,
    redis: PrefixedRedis,
    queue: Queue,
    caplog: pytest.LogCaptureFixture,
    *,
    is_due: bool,
) -> None:
    async def fail(_queue: QueueName) -> int:
        raise RedisConnectionError("away")

    await create_job(session, run_after=datetime.now(UTC) + timedelta(minutes=0 if is_due else 5))

    await Relay(database, redis, queue.send, fail).relay_jobs()

    assert ("jobs wait for the broker" in caplog.text) is is_due


async def test_the_carrier_counts_what_nobody_has_taken(servers: str, worker_number: int, settings: Settings) -> None:
    # A database of Valkey in which no worker of another test is at work.
    url = f"{embedded.redis_url(servers)}?db={32 + worker_number}"
    redis, carrier = connect_redis(url), CeleryCarrier(settings, url)
    counts = [carrier.count_queued()]
    carrier.send([DueJob(uuid4(), JobName.TEST, {}), DueJob(uuid4(), JobName.TEST, {})])
    counts.append(carrier.count_queued())
    await redis.flushdb()
    counts.append(carrier.count_queued())
    carrier.send([DueJob(uuid4(), JobName.TEST, {})])
    counts.append(carrier.count_queued())

    assert counts == [0, 2, 0, 1]
    await redis.flushdb()
    await redis.aclose()
    carrier.close()


@pytest.mark.parametrize("queue_name", QueueName)
async def test_each_queue_has_the_jobs_of_its_lanes(
    session: AsyncSession, database: Database, redis: PrefixedRedis, queue_name: QueueName
) -> None:
    # A thousand mails that nobody takes are no reason for the others to wait.
    counts = {QueueName.MAIN: 0, QueueName.OUTSIDE: 0} | {queue_name: 0}
    full = next(name for name in QueueName if name is not queue_name)
    counts[full] = MOST_QUEUED_JOBS
    sent: list[DueJob] = []

    async def send(jobs: Sequence[DueJob]) -> None:
        sent.extend(jobs)

    async def count(name: QueueName) -> int:
        return counts[name]

    names = (JobName.NOTIFY, JobName.SEND_MAIL, JobName.EXPIRE_LEASE, JobName.SEND_ACCOUNT_MAIL)
    for job_name in names:
        await job_in(database, session, job_name)
    relay = Relay(database, redis, send, count)

    for name in QueueName:
        await relay.relay_jobs(name)

    outside = {JobName.SEND_MAIL, JobName.SEND_ACCOUNT_MAIL}
    assert {job.name for job in sent} == (outside if queue_name is QueueName.OUTSIDE else {*names} - outside)
    assert {job.queue for job in sent} == {queue_name}


async def test_what_goes_first_has_room_behind_any_number_of_others(database: Database, redis: PrefixedRedis) -> None:
    sent: list[DueJob] = []

    async def send(jobs: Sequence[DueJob]) -> None:
        sent.extend(jobs)

    async with database.unit_of_work() as transaction:
        for _ in range(MOST_QUEUED_JOBS + 1):
            ask_for_job(transaction, JobName.NOTIFY)
        lease = ask_for_job(transaction, JobName.EXPIRE_LEASE)

    await Relay(database, redis, send, nothing_queued).relay_jobs()

    assert lease.id in {job.id for job in sent}


async def test_the_end_of_a_lease_is_taken_before_what_came_before_it(
    servers: str, worker_number: int, settings: Settings
) -> None:
    url = f"{embedded.redis_url(servers)}?db={32 + worker_number}"
    redis, carrier = connect_redis(url), CeleryCarrier(settings, url)
    usual, lease = DueJob(uuid4(), JobName.NOTIFY, {}), DueJob(uuid4(), JobName.EXPIRE_LEASE, {}, lane=Lane.FIRST)
    carrier.send([usual, lease])

    with carrier._celery.connection_for_read() as connection:
        messages: Any = carrier._celery.amqp.queues[QueueName.MAIN]
        queue = connection.SimpleQueue(messages)
        taken = [UUID(queue.get(block=False).headers["id"]) for _ in range(2)]

    assert taken == [lease.id, usual.id]
    await redis.flushdb()
    await redis.aclose()
    carrier.close()


async def test_many_jobs_go_to_the_broker_in_one_piece(servers: str, worker_number: int, settings: Settings) -> None:
    url = f"{embedded.redis_url(servers)}?db={32 + worker_number}"
    redis, carrier = connect_redis(url), CeleryCarrier(settings, url)
    jobs = [DueJob(uuid4(), JobName.TEST, {}) for _ in range(400)]
    carrier.send(jobs[:1])
    before = (await redis.info("stats"))["total_reads_processed"]

    carrier.send(jobs)

    reads = (await redis.info("stats"))["total_reads_processed"] - before
    assert carrier.count_queued() == 401
    # The server reads from other tests' clients too.
    assert reads < 200
    await redis.flushdb()
    await redis.aclose()
    carrier.close()


def test_the_carrier_says_that_it_can_not_count(settings: Settings) -> None:
    away = settings.model_copy(update={"redis_url": SecretStr("unix:///nowhere/at-all.sock")})
    carrier = CeleryCarrier(away, "unix:///nowhere/at-all.sock")

    with pytest.raises(ConnectionError):
        carrier.count_queued()
    carrier.close()
