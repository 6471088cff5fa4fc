"""Batches that are at the same tasks and people at once wait for each other, in one order."""

import asyncio
import random
from typing import Any

import httpx2
import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.models import Task, TaskStatus, User
from tests.builders.tasks import create_task
from tests.builders.users import create_user
from tests.conftest import ClientAs
from tests.integration.api.test_batch import CREATE, KEY, assign, delete, send, step, update
from tests.integration.api.test_blockers import block
from tests.utils.test_utils import events_of, problem, wait_for_lock_waiter


async def statuses_of(client: httpx2.AsyncClient, *items: dict[str, Any], mode: str = "each") -> list[int]:
    answer = await send(client, mode, *items)
    assert answer.status_code == 200, answer.text
    return [result["status"] for result in answer.json()["items"]]


@pytest.mark.committed
async def test_batches_that_go_the_opposite_way_do_not_meet_in_the_middle(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    tasks = [await create_task(session, owner=user) for _ in range(20)]

    def edits(number: int) -> list[dict[str, Any]]:
        items = [update(task, body={"title": f"Title {number}"}) for task in tasks]
        return items[:: 1 if number % 2 else -1]

    found = await asyncio.gather(*(statuses_of(signed_in, *edits(n), mode="atomic") for n in range(10)))

    assert found == [[200] * 20] * 10
    # All or nothing: whoever came last has the last word about all of them.
    assert len(set(await session.scalars(select(Task.title)))) == 1
    for task in tasks:
        assert [event.task_version for event in await events_of(session, task)] == list(range(2, 12))


@pytest.mark.committed
@pytest.mark.parametrize("seed", range(3))
async def test_batches_and_single_changes_of_a_tangle_all_happen(
    signed_in_admin: httpx2.AsyncClient, client_as: ClientAs, session: AsyncSession, user: User, seed: int
) -> None:
    """Completions, deletions, assignments and steps at once, of tasks that wait for each other and change hands."""
    chance = random.Random(seed)
    people = [await create_user(session) for _ in range(4)]
    clients = [signed_in_admin, await client_as(user)]
    begun = [await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS) for _ in range(24)]
    fresh = [await create_task(session, owner=user) for _ in range(12)]
    waiting = [await create_task(session, owner=user) for _ in range(8)]
    for place, task in enumerate(order := chance.sample(begun, k=24)):
        await block(session, task, *chance.sample(order[:place], k=min(place, 3)))
    for task in waiting:
        await block(session, task, *chance.sample(begun, k=3))
    items = [step(task, "completed") for task in begun[:18]] + [delete(task) for task in begun[18:]]
    items += [assign(task, chance.choice(people)) for task in fresh[:6]]
    items += [step(task, "in_progress") for task in fresh[6:]]
    chance.shuffle(items)
    batches = [items[number::6] for number in range(6)]

    edits = asyncio.gather(*(signed_in_admin.patch(f"/tasks/{task.id}", json={"category": "new"}) for task in waiting))
    found = await asyncio.gather(*(statuses_of(chance.choice(clients), *batch) for batch in batches))

    assert found == [[200] * 6] * 6
    assert [answer.status_code for answer in await edits] == [200] * len(waiting)
    for task in waiting:
        assert [event.type for event in await events_of(session, task)].count("task.ready") == 1


@pytest.mark.committed
async def test_who_leaves_while_batches_assign_ends_up_with_nothing(
    signed_in: httpx2.AsyncClient, client_as: ClientAs, session: AsyncSession, user: User, other_user: User
) -> None:
    tasks = [await create_task(session, owner=user) for _ in range(12)]
    leaver = await client_as(other_user)
    people = [other_user, user]

    def hand_over(number: int) -> list[dict[str, Any]]:
        return [assign(task, people[(number + place) % 2]) for place, task in enumerate(tasks)][:: -1 if number else 1]

    *found, left = await asyncio.gather(
        *(send(signed_in, "each", *hand_over(number)) for number in range(2)), leaver.delete("/users/me")
    )

    assert left.status_code == 200
    assert {result["status"] for answer in found for result in answer.json()["items"]} <= {200, 404}
    assert (await session.scalars(select(Task).where(Task.assignee_id == other_user.id))).all() == []


@pytest.mark.committed
@pytest.mark.parametrize("mode", ["atomic", "each"])
async def test_what_breaks_is_no_outcome_of_an_item_and_may_be_tried_again(
    signed_in: httpx2.AsyncClient, session: AsyncSession, database: Database, user: User, mode: str
) -> None:
    task = await create_task(session, owner=user)
    async with database.unit_of_work() as holder:
        # Whoever makes a task has to be sure that its owner stays.
        await holder.execute(text("SELECT FROM users WHERE id = :id FOR UPDATE"), {"id": user.id})
        batch = asyncio.create_task(send(signed_in, mode, update(task), CREATE, headers=KEY))
        pid = await wait_for_lock_waiter(session)
        await holder.execute(text("SELECT pg_cancel_backend(:pid)"), {"pid": pid})
        broken = await batch

    assert problem(broken, 503)["code"] == "too_slow"
    assert await events_of(session, task) == []
    again = await send(signed_in, mode, update(task), CREATE, headers=KEY)
    assert [result["status"] for result in again.json()["items"]] == [200, 201]
    assert "Idempotency-Replayed" not in again.headers
