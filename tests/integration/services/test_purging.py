"""What is past its time is forgotten in pieces, until there is none left."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.db import purging
from app.models import (
    ApiToken,
    Base,
    EventTicket,
    IdempotentRequest,
    Job,
    JobName,
    JobState,
    Notification,
    NotificationKind,
    SignInChange,
    User,
    UserSession,
)
from app.services import idempotency_service, job_admin
from app.services.job_admin import JobAdmin
from tests.builders.users import create_user
from tests.utils.jobs import WorkerHere
from tests.utils.serving import Serving

LONG_AGO = datetime.now(UTC) - timedelta(days=400)


def answer(_: User) -> IdempotentRequest:
    asked = {"method": "POST", "path": "/", "key": f"{uuid4()}", "body_hash": ""}
    said = {"status": 201, "headers": {}, "body": ""}
    return IdempotentRequest(user_id=uuid4(), created_at=LONG_AGO, **asked, **said)


def sign_in(user: User) -> UserSession:
    return UserSession(user_id=user.id, family_hash=f"{uuid4()}", current_hash="", expires_at=LONG_AGO)


def token(user: User) -> ApiToken:
    return ApiToken(user_id=user.id, name="Old", hash=f"{uuid4()}", scopes=[], expires_at=LONG_AGO)


def ticket(user: User) -> EventTicket:
    return EventTicket(hash=f"{uuid4()}", session_id=user.id, access_expires_at=LONG_AGO, expires_at=LONG_AGO)


def change(_: User) -> SignInChange:
    return SignInChange(subject=uuid4(), created_at=LONG_AGO)


def done_job(_: User) -> Job:
    return Job(name=JobName.TEST, arguments={}, state=JobState.DONE, done_at=LONG_AGO)


def read_notification(user: User) -> Notification:
    return Notification(user_id=user.id, kind=NotificationKind.ASSIGNED, event_id=uuid4(), read_at=LONG_AGO)


HOLDS_FOR_A_TIME = JobName.PURGE_IDEMPOTENT_REQUESTS


@pytest.mark.parametrize(
    ("make", "aged", "name"),
    [
        (answer, IdempotentRequest.created_at, HOLDS_FOR_A_TIME),
        (sign_in, UserSession.expires_at, HOLDS_FOR_A_TIME),
        (token, ApiToken.expires_at, HOLDS_FOR_A_TIME),
        (ticket, EventTicket.expires_at, HOLDS_FOR_A_TIME),
        (change, SignInChange.created_at, HOLDS_FOR_A_TIME),
        (done_job, Job.done_at, JobName.PURGE_FINISHED_JOBS),
        (read_notification, Notification.read_at, JobName.PURGE_NOTIFICATIONS),
    ],
)
async def test_it_is_forgotten_in_pieces_until_none_is_left(
    session: AsyncSession,
    worker_here: WorkerHere,
    user: User,
    make: Callable[[User], Base],
    aged: InstrumentedAttribute[datetime],
    name: JobName,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(purging, "AT_ONCE", 2)
    monkeypatch.setattr(idempotency_service, "PURGED_AT_ONCE", 2)
    session.add_all([make(user) for _ in range(5)])
    session.add(Job(name=name, arguments={}))

    left = []
    while await worker_here.do_next(session, name):
        left.append(await session.scalar(select(func.count()).where(aged == LONG_AGO)))

    assert left == [3, 1, 0]


async def test_accounts_with_many_notifications_are_emptied_when_those_are_gone(
    session: AsyncSession, worker_here: WorkerHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "AT_ONCE", 2)
    ended = await create_user(session, is_active=False, deactivated_at=LONG_AGO)
    session.add_all([read_notification(ended) for _ in range(3)])
    session.add(Job(name=JobName.EMPTY_ENDED_ACCOUNTS, arguments={}))

    assert await worker_here.do_next(session, JobName.EMPTY_ENDED_ACCOUNTS)
    await session.refresh(ended)
    assert ended.emptied_at is None
    while await worker_here.do_next(session, JobName.EMPTY_ENDED_ACCOUNTS):
        pass

    await session.refresh(ended)
    assert ended.emptied_at is not None
    assert await session.scalar(select(func.count()).select_from(Notification)) == 0


async def test_an_operator_retries_and_forgets_jobs_in_pieces(
    session: AsyncSession, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_admin, "AT_ONCE", 2)
    session.add_all([Job(name=JobName.TEST, arguments={}, state=JobState.DEAD) for _ in range(3)])
    session.add_all([done_job(User()) for _ in range(3)])
    await session.flush()
    jobs = serving(JobAdmin)

    retried = [len(await jobs.retry_some(None)) for _ in range(3)]
    forgotten = [await jobs.purge_some(JobState.DONE, older_than=timedelta(0)) for _ in range(3)]

    assert (retried, forgotten) == ([2, 1, 0], [2, 1, 0])
    assert set(await session.scalars(select(Job.state))) == {JobState.WAITING}
