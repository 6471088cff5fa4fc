"""What an API process, its sockets and its accounts bear without losing their way."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.permissions import Actor
from app.core.redis import connect_redis
from app.database import Database
from app.events import outbox
from app.events.due_jobs import DueJob
from app.events.relay import Relay
from app.events.types import ChatMessage
from app.main import _begin_again_after_faults
from app.models import Event, EventType, JobName, Task, TaskStatus, User
from app.reads.dashboard_reads import DashboardReads
from app.websockets.connection import Connection
from app.websockets.connection_manager import ConnectionManager
from app.websockets.presence import Presence
from tests.builders.tasks import create_task
from tests.builders.users import create_user
from tests.conftest import ClientAs
from tests.utils.databases import new_database
from tests.utils.jobs import job_in
from tests.utils.serving import Serving
from tests.utils.test_utils import PATIENCE, nothing_queued, problem, wait_until_async


async def test_background_work_that_breaks_begins_again() -> None:
    attempts = 0

    async def work() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise ZeroDivisionError

    async with asyncio.timeout(PATIENCE):
        await _begin_again_after_faults(work)

    assert attempts == 2


@pytest.mark.committed
async def test_a_broker_that_hangs_holds_up_no_event(
    database_url: str, redis_url: str, serving: Serving, session: AsyncSession, user: User
) -> None:
    is_hanging = asyncio.Event()

    async def hang(_jobs: Sequence[DueJob]) -> None:
        is_hanging.set()
        await asyncio.Event().wait()

    database, redis = Database.connect(database_url, application="tests", pool_size=4), connect_redis(redis_url)
    await job_in(database, session, JobName.TEST)
    relaying = asyncio.create_task(Relay(database, redis, hang, nothing_queued).run())
    async with asyncio.timeout(PATIENCE):
        await is_hanging.wait()
    message = ChatMessage(message="still heard")
    await serving.do(outbox.record, message, actor=Actor.of(user), audience=None)

    async def is_numbered() -> bool:
        await session.commit()
        return await session.scalar(select(Event.seq).where(Event.type == EventType.CHAT_MESSAGE)) is not None

    await wait_until_async(is_numbered, what="the event")
    relaying.cancel()
    await asyncio.gather(relaying, return_exceptions=True)
    await redis.aclose()
    await database.close()


@pytest.mark.committed
async def test_steps_and_departures_at_once_neither_deadlock_nor_leave_a_task_behind(
    client_as: ClientAs, session: AsyncSession, user: User
) -> None:
    owner = await client_as(user)
    for _ in range(6):
        leaver = await create_user(session)
        held = [await create_task(session, owner=user, assignee=leaver, status=TaskStatus.IN_PROGRESS) for _ in "abc"]
        own = await create_task(session, owner=leaver)
        client = await client_as(leaver)

        answers = await asyncio.gather(
            *(owner.put(f"/tasks/{task.id}/status", json={"status": "completed"}) for task in held),
            client.put(f"/tasks/{own.id}/status", json={"status": "in_progress"}),
            client.delete("/users/me"),
        )

        assert {answer.status_code for answer in answers} <= {200, 401, 404, 409}
        in_progress = select(Task).where(Task.assignee_id == leaver.id, Task.status == TaskStatus.IN_PROGRESS)
        assert (await session.scalars(in_progress)).all() == []


async def test_points_of_a_task_count_for_one_holder_also_after_the_first_has_left(
    client_as: ClientAs, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user, assignee=other_user, status=TaskStatus.COMPLETED, impact_points=7)
    other_user.is_active = False
    await session.commit()
    owner = await client_as(user)

    reopened = await owner.put(f"/tasks/{task.id}/status", json={"status": "in_progress"})

    assert reopened.json()["assignee_id"] == str(user.id)
    asked = (
        (await session.execute(text("SELECT arguments ->> 'user_id' FROM jobs WHERE name = 'recompute_impact_score'")))
        .scalars()
        .all()
    )
    assert set(asked) == {str(user.id), str(other_user.id)}


async def test_an_unmigrated_database_is_told_as_one(servers: str, client_as: ClientAs, user: User) -> None:
    async with new_database(servers) as url:
        database = Database.connect(url, application="tests", pool_size=4)
        client = await client_as(user)
        app = client._transport.app  # type: ignore[attr-defined]
        app.state.hive = replace(app.state.hive, database=database, dashboard_reads=DashboardReads(database))

        ready = await client.get("http://hive.test/health/ready")
        summary = await client.get("/dashboard/summary")
        await database.close()

    checks = problem(ready, 503)["checks"]
    assert checks["migrations"] == {"ok": False, "detail": "not migrated yet"}
    assert problem(summary, 503)["code"] == "not_migrated"


async def test_errors_of_statements_do_not_tell_their_parameters(database: Database) -> None:
    with pytest.raises(Exception, match="division") as raised:
        async with database.unit_of_work() as transaction:
            await transaction.execute(text("SELECT CAST(:secret AS text), 1 / 0"), {"secret": "hunter2"})

    assert "hunter2" not in str(raised.value)


async def test_a_moment_without_redis_makes_nobody_offline(redis_url: str) -> None:
    here, there = connect_redis(redis_url), connect_redis(redis_url)
    connections, elsewhere = ConnectionManager(), ConnectionManager()
    guest = Actor(uuid4())
    elsewhere.add(Connection(guest))
    other_process, presence = Presence(there, elsewhere), Presence(here, connections)
    await other_process._exchange()
    await presence._exchange()
    assert guest.id in presence.online()

    presence._redis = connect_redis("unix:///nowhere/at-all.sock")
    looking = asyncio.create_task(presence.run())
    for _ in range(3):
        presence.sockets_changed()
        await asyncio.sleep(0)
        assert guest.id in presence.online()
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    await other_process.leave()
    for redis in (here, there, presence._redis):
        await redis.aclose()


async def test_an_account_of_an_international_domain_signs_in_as_it_registered(client: httpx2.AsyncClient) -> None:
    account = {"email": "ada@bücher.example", "password": "correct horse battery"}
    assert (await client.post("/auth/register", json=account | {"display_name": "Ada"})).status_code == 201

    assert (await client.post("/auth/login", json=account)).status_code == 200
