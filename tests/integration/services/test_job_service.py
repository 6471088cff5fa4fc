"""Doing a job that came from the carrier: once, whole, and again after a failure."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import HiveError
from app.database import Database
from app.db.pool import Connections
from app.db.transaction import Transaction
from app.models import Job, JobName, JobState, User
from app.services.job_service import (
    FIRST_PAUSE,
    KEEP_DONE,
    MAX_ATTEMPTS,
    Hopeless,
    mark_done,
    perform,
    perform_outside,
    purge_done_jobs,
)
from tests.utils.driver_connections import NotingConnections
from tests.utils.serving import Serving
from tests.utils.test_utils import wait_for_lock_waiter

pytestmark = pytest.mark.committed


async def create_job(session: AsyncSession, **values: Any) -> Job:
    """A job that no relay sends by itself: another test may have left one running."""
    usual = {
        "name": JobName.TEST,
        "arguments": {},
        "state": JobState.SENT,
        "run_after": datetime(2100, 1, 1, tzinfo=UTC),
    }
    job = Job(**(usual | values))
    session.add(job)
    await session.commit()
    return job


async def add_user(transaction: Transaction) -> None:
    """An effect that can be counted."""
    transaction.add(User(email=f"{uuid4()}@example.org", display_name="Effect", password_hash=""))
    await transaction.flush()


async def fail(transaction: Transaction) -> None:
    await add_user(transaction)
    raise LookupError("the effect is half done")


async def effects(session: AsyncSession) -> int:
    return await session.scalar(select(func.count()).select_from(User)) or 0


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.SENT])
async def test_a_job_is_done_with_its_effect(session: AsyncSession, database: Database, state: JobState) -> None:
    job = await create_job(session, state=state)

    await perform(database, job.id, add_user)

    await session.refresh(job)
    assert (job.state, job.attempts, job.last_error) == (JobState.DONE, 1, None)
    assert job.done_at is not None
    assert await effects(session) == 1


async def test_doing_a_job_costs_two_statements(session: AsyncSession, driver_connections: Connections) -> None:
    job = await create_job(session)
    sent: list[str] = []

    async def nothing(_work: Transaction) -> None:
        pass

    noting = NotingConnections(driver_connections, lambda sql, _: sent.append(sql))
    await perform(Database(noting), job.id, nothing)

    # The attempt is counted, the job is marked.
    assert len(sent) == 2, "\n".join(sent)


async def test_a_job_that_comes_often_has_one_effect(session: AsyncSession, database: Database) -> None:
    job = await create_job(session)

    for _ in range(3):
        await perform(database, job.id, add_user)

    await session.refresh(job)
    assert (await effects(session), job.attempts) == (1, 1)


async def test_a_job_that_comes_to_many_at_once_has_one_effect(session: AsyncSession, database: Database) -> None:
    job = await create_job(session)

    await asyncio.gather(*(perform(database, job.id, add_user) for _ in range(8)))

    await session.refresh(job)
    assert (await effects(session), job.state) == (1, JobState.DONE)


async def test_a_job_that_is_being_done_is_waited_for_and_not_done_again(
    session: AsyncSession, database: Database
) -> None:
    job = await create_job(session)
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow(work: Transaction) -> None:
        await add_user(work)
        begun.set()
        await may_end.wait()

    first = asyncio.create_task(perform(database, job.id, slow))
    await begun.wait()
    second = asyncio.create_task(perform(database, job.id, add_user))
    await wait_for_lock_waiter(session)
    may_end.set()
    await asyncio.gather(first, second)

    await session.refresh(job)
    assert (job.state, job.attempts, await effects(session)) == (JobState.DONE, 1, 1)


async def test_a_job_that_nobody_asked_for_has_no_effect(session: AsyncSession, database: Database) -> None:
    await perform(database, uuid4(), add_user)

    assert await effects(session) == 0


@pytest.mark.parametrize(
    "finished", [{"state": JobState.DONE, "done_at": datetime.now(UTC)}, {"state": JobState.DEAD}], ids=["done", "dead"]
)
async def test_a_finished_job_has_no_further_effect(
    session: AsyncSession, database: Database, finished: dict[str, Any]
) -> None:
    job = await create_job(session, **finished)

    await perform(database, job.id, add_user)

    await session.refresh(job)
    assert (await effects(session), job.state, job.attempts) == (0, finished["state"], 0)


async def test_an_effect_that_raises_leaves_nothing(session: AsyncSession, database: Database) -> None:
    job = await create_job(session)

    with pytest.raises(LookupError):
        await perform(database, job.id, fail)

    assert await effects(session) == 0


async def test_a_failure_is_noted_and_the_job_waits_for_its_next_time(
    session: AsyncSession, database: Database
) -> None:
    job = await create_job(session)

    with pytest.raises(LookupError):
        await perform(database, job.id, fail)

    await session.refresh(job)
    assert (job.state, job.attempts, job.done_at) == (JobState.WAITING, 1, None)
    assert job.last_error == "LookupError: the effect is half done"
    assert job.run_after > datetime.now(UTC)


async def test_the_pause_doubles_with_each_failure(session: AsyncSession, database: Database) -> None:
    pauses = []
    for attempts in range(3):
        job = await create_job(session, attempts=attempts)
        with pytest.raises(LookupError):
            await perform(database, job.id, fail)
        await session.refresh(job)
        pauses.append((job.run_after - datetime.now(UTC)) / FIRST_PAUSE)

    assert pauses == pytest.approx([2, 4, 8], abs=0.9)


async def test_a_job_that_failed_too_often_is_laid_aside_with_its_error(
    session: AsyncSession, database: Database
) -> None:
    job = await create_job(session, attempts=MAX_ATTEMPTS - 1)

    with pytest.raises(LookupError):
        await perform(database, job.id, fail)

    await session.refresh(job)
    assert (job.state, job.attempts) == (JobState.DEAD, MAX_ATTEMPTS)
    assert job.last_error == "LookupError: the effect is half done"


async def test_a_job_that_killed_each_of_its_workers_is_laid_aside_undone(
    session: AsyncSession, database: Database
) -> None:
    job = await create_job(session, attempts=MAX_ATTEMPTS)

    await perform(database, job.id, add_user)

    await session.refresh(job)
    assert (job.state, await effects(session)) == (JobState.DEAD, 0)
    assert job.last_error is not None
    assert "worker" in job.last_error


async def test_an_attempt_counts_before_its_effect_begins(session: AsyncSession, database: Database) -> None:
    """Or else a job that kills its worker would do so for ever."""
    job = await create_job(session)
    seen: list[int] = []

    async def look(_work: Transaction) -> None:
        await session.refresh(job)
        seen.append(job.attempts)

    await perform(database, job.id, look)

    assert seen == [1]


async def test_after_a_failure_the_next_time_may_succeed(session: AsyncSession, database: Database) -> None:
    job = await create_job(session)
    with pytest.raises(LookupError):
        await perform(database, job.id, fail)

    await perform(database, job.id, add_user)

    await session.refresh(job)
    assert (job.state, job.attempts, await effects(session)) == (JobState.DONE, 2, 1)


async def test_a_failing_statement_of_an_effect_is_a_failure_like_any_other(
    session: AsyncSession, database: Database
) -> None:
    job = await create_job(session)

    async def break_a_rule(work: Transaction) -> None:
        await add_user(work)
        await work.execute(text("SELECT 1/0"))

    with pytest.raises(Exception, match="division by zero"):
        await perform(database, job.id, break_a_rule)

    await session.refresh(job)
    assert (job.state, await effects(session)) == (JobState.WAITING, 0)
    assert "division by zero" in (job.last_error or "")


async def test_an_effect_whose_commit_fails_leaves_nothing_and_the_job_undone(
    session: AsyncSession, database: Database
) -> None:
    job = await create_job(session)

    async def lose_the_connection(work: Transaction) -> None:
        await add_user(work)
        pid = await work.scalar(text("SELECT pg_backend_pid()"))
        await session.execute(text("SELECT pg_terminate_backend(:pid, 90000)"), {"pid": pid})

    with pytest.raises(HiveError) as failed:
        await perform(database, job.id, lose_the_connection)

    assert failed.value.status_code == 503
    await session.refresh(job)
    assert (job.state, await effects(session)) == (JobState.WAITING, 0)


async def test_the_text_of_an_error_is_kept_to_a_length(session: AsyncSession, database: Database) -> None:
    job = await create_job(session)

    async def complain(_work: Transaction) -> None:
        raise LookupError("x" * 100_000)

    with pytest.raises(LookupError):
        await perform(database, job.id, complain)

    await session.refresh(job)
    assert len(job.last_error or "") == 2_000


async def test_a_cancelled_worker_leaves_its_job_to_be_sent_again(session: AsyncSession, database: Database) -> None:
    job = await create_job(session)
    begun = asyncio.Event()

    async def hang(work: Transaction) -> None:
        await add_user(work)
        begun.set()
        await asyncio.Event().wait()

    working = asyncio.create_task(perform(database, job.id, hang))
    await begun.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working

    await session.refresh(job)
    assert (job.state, await effects(session)) == (JobState.SENT, 0)


async def test_marking_as_done_leaves_finished_jobs_alone(serving: Serving, session: AsyncSession) -> None:
    earlier = datetime(2026, 1, 1, tzinfo=UTC)
    done = await create_job(session, state=JobState.DONE, done_at=earlier)
    dead = await create_job(session, state=JobState.DEAD)

    for job in (done, dead):
        await serving.do(mark_done, job.id)

    await session.refresh(done)
    await session.refresh(dead)
    assert (done.done_at, dead.state) == (earlier, JobState.DEAD)


async def test_purging_forgets_only_what_was_done_long_ago(serving: Serving, session: AsyncSession) -> None:
    old = datetime.now(UTC) - KEEP_DONE - timedelta(minutes=1)
    await create_job(session, state=JobState.DONE, done_at=old)
    younger = old + timedelta(minutes=2)
    remaining = [await create_job(session, state=JobState.DONE, done_at=younger)]
    remaining += [await create_job(session, state=state) for state in JobState if state is not JobState.DONE]
    await session.execute(update(Job).values(created_at=old))
    await session.commit()

    await serving.do(purge_done_jobs)

    assert set(await session.scalars(select(Job.id))) == {job.id for job in remaining}


async def test_an_effect_outside_is_had_by_one_of_two_messages(session: AsyncSession, database: Database) -> None:
    job = await create_job(session)
    began, may_end, count = asyncio.Event(), asyncio.Event(), 0

    async def act() -> None:
        nonlocal count
        count += 1
        began.set()
        await may_end.wait()

    first = asyncio.create_task(perform_outside(database, job.id, act))
    await began.wait()
    await perform_outside(database, job.id, act)
    may_end.set()
    await first

    await session.refresh(job)
    assert (count, job.state, job.attempts) == (1, JobState.DONE, 1)
    await perform_outside(database, job.id, act)
    assert count == 1


async def test_an_effect_outside_that_was_cut_off_is_had_again_when_its_hold_is_over(
    session: AsyncSession, database: Database
) -> None:
    """As when its worker is killed."""
    job = await create_job(session, held_until=func.now() + timedelta(minutes=1), attempts=1)
    count = 0

    async def act() -> None:
        nonlocal count
        count += 1

    await perform_outside(database, job.id, act)
    assert count == 0
    await session.execute(update(Job).values(held_until=func.now() - timedelta(seconds=1)))
    await session.commit()
    await perform_outside(database, job.id, act)

    await session.refresh(job)
    assert (count, job.state, job.attempts) == (1, JobState.DONE, 2)


async def test_an_effect_outside_that_failed_is_free_to_be_tried_again(
    session: AsyncSession, database: Database
) -> None:
    job = await create_job(session)

    async def act() -> None:
        raise LookupError("the other side is away")

    with pytest.raises(LookupError):
        await perform_outside(database, job.id, act)

    await session.refresh(job)
    assert (job.state, job.held_until, job.attempts) == (JobState.WAITING, None, 1)
    assert job.last_error == "LookupError: the other side is away"


async def test_what_is_hopeless_is_laid_aside_at_once(session: AsyncSession, database: Database) -> None:
    job = await create_job(session)

    async def act() -> None:
        raise Hopeless("nobody lives there")

    with pytest.raises(Hopeless):
        await perform_outside(database, job.id, act)

    await session.refresh(job)
    assert (job.state, job.attempts, job.last_error) == (JobState.DEAD, 1, "Hopeless: nobody lives there")


@pytest.mark.parametrize("name", [name for name in JobName if name.startswith("send_")])
async def test_a_mail_is_tried_for_a_day(session: AsyncSession, database: Database, name: JobName) -> None:
    job = await create_job(session, name=name, attempts=MAX_ATTEMPTS)

    async def act() -> None:
        raise LookupError("the mail server is away")

    with pytest.raises(LookupError):
        await perform_outside(database, job.id, act)

    await session.refresh(job)
    assert job.state is JobState.WAITING
