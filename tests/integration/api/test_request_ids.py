"""One id, from the header of a request to its event, its jobs, what follows from those, and the lines of the logs."""

import asyncio
import json
import logging
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.contextvars import bound_contextvars, clear_contextvars
from websockets.asyncio.client import connect

from app.config import Settings
from app.core.logging import current_request_id
from app.core.permissions import Actor
from app.core.redis import connect_redis
from app.database import Database
from app.db.transaction import Transaction
from app.events import outbox
from app.events.jobs import ask_for_job
from app.events.published import read_log
from app.events.relay import Relay, number_events
from app.events.types import ChatMessage
from app.models import Event, EventType, Job, JobName, JobState, TaskStatus, User
from app.services.job_service import perform
from tests.builders.tasks import create_task
from tests.conftest import RunningSystem, token_of
from tests.utils.jobs import job_in
from tests.utils.processes import HiveProcess
from tests.utils.test_utils import PATIENCE, events_of, nothing_queued, wait_until, wait_until_async

pytestmark = pytest.mark.committed


def new_id() -> str:
    return f"trace-{uuid4()}"


def line_of(process: HiveProcess, event: str, request_id: str) -> str:
    """The one line that the process has said of this, once it has."""

    def find() -> list[str]:
        return [line for line in process.output.splitlines() if event in line and f"request_id={request_id}" in line]

    [line] = wait_until(find, what=f"{event!r} of {request_id}")
    return line


async def test_the_id_of_a_request_is_in_its_event_its_job_and_the_workers_log(
    running_system: RunningSystem,
    running_worker: HiveProcess,
    settings: Settings,
    session: AsyncSession,
    user: User,
) -> None:
    task = await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS, impact_points=3)
    request_id = new_id()
    headers = {"Authorization": f"Bearer {token_of(user, settings)}", "X-Request-ID": request_id}

    async with httpx2.AsyncClient(base_url=running_system.address, headers=headers, timeout=PATIENCE) as http:
        answer = await http.put(f"/tasks/{task.id}/status", json={"status": "completed"})

    assert answer.headers["X-Request-ID"] == request_id
    [event] = await events_of(session, task)
    assert (event.type, event.request_id) == (EventType.TASK_STATUS_CHANGED, request_id)
    job = (await session.scalars(select(Job).where(Job.name == JobName.RECOMPUTE_IMPACT_SCORE))).one()
    assert job.request_id == request_id
    line = await asyncio.to_thread(line_of, running_worker, "a job is done", request_id)
    assert f"job={job.name} " in line
    assert f"job_id={job.id} " in line
    assert " ms=" in line
    await session.refresh(job)
    assert job.state is JobState.DONE


async def test_a_chat_message_has_the_id_of_its_socket(
    running_system: RunningSystem, settings: Settings, session: AsyncSession, user: User
) -> None:
    request_id = new_id()
    url = f"{running_system.sockets}?token={token_of(user, settings)}"
    async with connect(url, proxy=None, additional_headers={"X-Request-ID": request_id}) as socket:
        for message in ("one", "two"):
            await socket.send(json.dumps({"type": "chat.message", "data": {"message": message}}))

        async def have_come() -> bool:
            await session.rollback()
            ids = (await session.scalars(select(Event.request_id).where(Event.type == EventType.CHAT_MESSAGE))).all()
            return ids == [request_id] * 2

        await wait_until_async(have_come, what="both messages with the id of their socket")


async def test_what_a_job_brings_about_has_the_id_of_the_request_before_it(
    database: Database, session: AsyncSession, user: User
) -> None:
    request_id = new_id()
    with bound_contextvars(request_id=request_id):
        first = await job_in(database, session, JobName.TEST)

    async def effect(work: Transaction) -> None:
        ask_for_job(work, JobName.RECOMPUTE_IMPACT_SCORE, user_id=str(user.id))
        await outbox.record(work, ChatMessage(message="done"), actor=Actor.of(user), audience=None)

    await perform(database, first.id, effect)

    ids = [*await session.scalars(select(Job.request_id)), *await session.scalars(select(Event.request_id))]
    assert ids == [request_id] * 3


async def test_a_job_that_follows_from_no_request_does_not_keep_the_id_of_the_one_before(
    database: Database, session: AsyncSession
) -> None:
    clear_contextvars()
    seen = []

    async def effect(_work: Transaction) -> None:
        seen.append(current_request_id())

    for request_id in (new_id(), None):
        job = Job(name=JobName.TEST, arguments={}, request_id=request_id)
        session.add(job)
        await session.commit()
        async with asyncio.TaskGroup() as group:
            group.create_task(perform(database, job.id, effect))

    assert seen[0] is not None
    assert seen[1] is None


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="app.events.relay")
    return caplog


def requests_in(said: pytest.LogCaptureFixture, event: str) -> dict[object, object]:
    """What the one line of this says about requests."""
    [requests] = [
        record.msg["requests"]
        for record in said.records
        if isinstance(record.msg, dict) and record.msg["event"] == event
    ]
    assert isinstance(requests, dict)
    return requests


async def test_the_relay_says_which_events_and_jobs_came_from_which_requests(
    database: Database, redis_url: str, user: User, said: pytest.LogCaptureFixture
) -> None:
    clear_contextvars()
    request_id = new_id()
    redis = connect_redis(redis_url)
    for bound in ({"request_id": request_id}, {}):
        with bound_contextvars(**bound):
            async with database.unit_of_work() as unit:
                await outbox.record(unit, ChatMessage(message="hello"), actor=Actor.of(user), audience=None)
                job = ask_for_job(unit, JobName.TEST)
    async with database.unit_of_work() as unit:
        before = (await read_log(unit)).last_seq
    relay = Relay(database, redis, lambda _jobs: asyncio.sleep(0), nothing_queued)

    assert await number_events(database, limit=10) == 2
    await relay.relay_jobs()

    assert requests_in(said, "numbered events") == {before + 1: request_id, before + 2: None}
    assert len(requests_in(said, "sending jobs")) == 2
    assert requests_in(said, "sending jobs")[str(job.id)] is None
    await redis.aclose()
