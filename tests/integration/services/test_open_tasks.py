"""An account owns so many open tasks, and can't make more."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.database import Database
from app.models import Event, Task, TaskStatus, User
from app.services import open_tasks
from app.services.open_tasks import MINUTE, OpenTasks, TooManyTasks
from tests.builders.tasks import create_held_tasks, create_task
from tests.conftest import attached_state
from tests.utils.test_utils import problem

MOST = 5
ROSES = {"title": "Roses"}


@pytest.fixture
async def app(
    routes_app: FastAPI, settings: Settings, database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FastAPI]:
    """The application, where an account owns five open tasks, and is counted anew whenever there is no room."""
    monkeypatch.setattr(open_tasks, "COUNTED_AGAIN_AFTER", 0.0)
    strict = settings.model_copy(update={"open_tasks_per_user": MOST})
    async with attached_state(routes_app, strict, database, redis_url):
        yield routes_app


async def number_of_tasks(session: AsyncSession) -> int:
    await session.commit()
    return await session.scalar(select(func.count()).select_from(Task)) or 0


async def test_who_owns_enough_open_tasks_makes_no_more_until_one_is_completed_or_gone(
    signed_in: httpx2.AsyncClient, signed_in_other: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    await create_task(session, owner=user, status=TaskStatus.COMPLETED)
    held = await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS)
    made = [await signed_in.post("/tasks", json=ROSES) for _ in range(MOST - 1)]

    refused = await signed_in.post("/tasks", json=ROSES)
    by_key = await signed_in.post("/tasks", json=ROSES, headers={"Idempotency-Key": "one-rose"})

    assert {answer.status_code for answer in made} == {201}
    assert problem(refused, 409)["code"] == problem(by_key, 409)["code"] == "too_many_tasks"
    assert await number_of_tasks(session) == MOST + 1
    assert await session.scalar(select(func.count()).select_from(Event)) == MOST - 1
    assert (await signed_in_other.post("/tasks", json=ROSES)).status_code == 201
    assert (await signed_in.put(f"/tasks/{held.id}/status", json={"status": "completed"})).status_code == 200
    assert (await signed_in.delete(f"/tasks/{made[0].json()['id']}")).status_code == 200
    assert [(await signed_in.post("/tasks", json=ROSES)).status_code for _ in range(3)] == [201, 201, 409]


@pytest.mark.parametrize("mode", ["atomic", "each"])
async def test_a_batch_needs_room_for_all_that_it_makes(
    signed_in: httpx2.AsyncClient, session: AsyncSession, mode: str
) -> None:
    def making(count: int) -> dict[str, Any]:
        return {"mode": mode, "items": [{"op": "create", "body": ROSES}] * count}

    first = await signed_in.post("/tasks/batch", json=making(3))
    refused = await signed_in.post("/tasks/batch", json=making(3))
    second = await signed_in.post("/tasks/batch", json=making(2))

    assert (first.status_code, second.status_code) == (200, 200)
    assert problem(refused, 409)["code"] == "too_many_tasks"
    assert await number_of_tasks(session) == MOST


async def test_a_count_is_remembered_for_as_long_as_half_of_the_room_lasts(
    database: Database, session: AsyncSession, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    counts = []
    read = database.read

    async def counting(*arguments: Any) -> Any:
        counts.append(now)
        return await read(*arguments)

    monkeypatch.setattr(database, "read", counting)
    tasks = OpenTasks(database, 1_000, per_minute=100, clock=lambda: now)
    await tasks.require_room(user.id, tasks=900)
    now += 4.9 * MINUTE
    await tasks.require_room(user.id, tasks=100)
    assert counts == [1_000.0]
    # None of them was made, as a look tells.
    await tasks.require_room(user.id)
    assert counts == [1_000.0, now]

    await create_held_tasks(session, 999, owner=user, holder=user)
    now += 5 * MINUTE
    await tasks.require_room(user.id)
    with pytest.raises(TooManyTasks):
        await tasks.require_room(user.id)
    assert len(counts) == 3
