"""When a task that waits becomes ready: told once each time, also of those who complete its blockers at once."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import httpx2
import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.permissions import Actor
from app.database import Database
from app.models import Event, EventType, Task, TaskBlocker, TaskStatus, User
from app.services import BlockerService
from tests.builders.tasks import create_task
from tests.integration.api.test_blockers import block
from tests.utils.test_utils import events_of, wait_for_lock_waiter


async def set_status(client: httpx2.AsyncClient, task: Task, status: TaskStatus) -> None:
    answer = await client.put(f"/tasks/{task.id}/status", json={"status": status})
    assert answer.status_code == 200, answer.text


async def ready_ids(client: httpx2.AsyncClient, *, ready: bool = True) -> set[str]:
    return {task["id"] for task in (await client.get("/tasks", params={"ready": ready, "limit": 200})).json()}


async def times_ready(session: AsyncSession, task: Task) -> int:
    return sum(event.type == EventType.TASK_READY for event in await events_of(session, task))


async def test_the_completion_of_the_last_blocker_makes_it_ready_each_time(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    first, last = [await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS) for _ in range(2)]
    await block(session, task, first, last)

    await set_status(signed_in, first, TaskStatus.COMPLETED)
    assert (await events_of(session, task), str(task.id) in await ready_ids(signed_in)) == ([], False)
    await set_status(signed_in, last, TaskStatus.COMPLETED)

    [event] = await events_of(session, task)
    assert (event.type, event.task_version, event.actor_id, event.data) == ("task.ready", 2, user.id, {})
    assert await ready_ids(signed_in) == {str(task.id)}
    assert (await signed_in.get(f"/tasks/{task.id}")).json()["version"] == 2

    await set_status(signed_in, first, TaskStatus.IN_PROGRESS)
    assert await ready_ids(signed_in) == set()
    assert (await signed_in.post(f"/tasks/{task.id}/claim")).json()["code"] == "blocked"
    await set_status(signed_in, first, TaskStatus.COMPLETED)
    assert await times_ready(session, task) == 2
    assert (await signed_in.post(f"/tasks/{task.id}/claim")).status_code == 200


@pytest.mark.parametrize("status", [TaskStatus.DRAFT, TaskStatus.IN_PROGRESS, TaskStatus.COMPLETED])
async def test_what_is_not_available_does_not_become_ready(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, status: TaskStatus
) -> None:
    task = await create_task(session, owner=user, status=status)
    blocker = await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS)
    await block(session, task, blocker)

    await set_status(signed_in, blocker, TaskStatus.COMPLETED)

    assert await events_of(session, task) == []
    assert await ready_ids(signed_in) == set()


@pytest.mark.parametrize("was_completed", [False, True])
async def test_a_deleted_blocker_is_in_nobodys_way(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, was_completed: bool
) -> None:
    task = await create_task(session, owner=user)
    status = TaskStatus.COMPLETED if was_completed else TaskStatus.AVAILABLE
    blocker = await create_task(session, owner=user, status=status)
    await block(session, task, blocker)

    await signed_in.delete(f"/tasks/{blocker.id}")

    expected = ["task.unblocked"] if was_completed else ["task.unblocked", "task.ready"]
    events = await events_of(session, task)
    assert [(event.type, event.task_version) for event in events] == list(zip(expected, [2, 3], strict=False))
    assert events[0].data == {"blocker_id": str(blocker.id)}
    assert list(await session.scalars(select(TaskBlocker))) == []


async def test_ready_and_not_ready_are_all(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User
) -> None:
    ready = await create_task(session, owner=user)
    others = [await create_task(session, owner=user, status=status) for status in TaskStatus]
    hidden = await create_task(session, owner=other_user, status=TaskStatus.DRAFT)
    waits = others[list(TaskStatus).index(TaskStatus.AVAILABLE)]
    await block(session, waits, hidden)

    assert await ready_ids(signed_in) == {str(ready.id)}
    assert await ready_ids(signed_in, ready=False) == {str(task.id) for task in others}


async def ready_events(session: AsyncSession, tasks: Sequence[Task]) -> Counter[object]:
    """How often each of the tasks was told to be ready."""
    mine = select(Event.task_id).where(Event.type == EventType.TASK_READY, Event.task_id.in_(t.id for t in tasks))
    return Counter(await session.scalars(mine))


@pytest.mark.committed
async def test_of_last_blockers_completed_at_once_one_makes_it_ready(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    tasks = [await create_task(session, owner=user) for _ in range(5)]
    blockers = [await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS) for _ in range(10)]
    for task in tasks:
        await block(session, task, *blockers)

    await asyncio.gather(*(set_status(signed_in, blocker, TaskStatus.COMPLETED) for blocker in blockers))

    assert await ready_events(session, tasks) == {task.id: 1 for task in tasks}


@pytest.mark.committed
@pytest.mark.parametrize("seed", range(3))
async def test_completions_in_a_tangle_wait_for_each_other_in_one_order(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, seed: int
) -> None:
    """Those that wait are completed at the same time themselves, and are in an order of ids of their own."""
    chance = random.Random(seed)
    begun = [await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS) for _ in range(30)]
    waiting = [await create_task(session, owner=user) for _ in range(10)]
    order = chance.sample(begun, k=len(begun))
    for place, task in enumerate(order):
        await block(session, task, *chance.sample(order[:place], k=min(place, 4)))
    for task in waiting:
        await block(session, task, *chance.sample(order, k=4))

    await asyncio.gather(*(set_status(signed_in, task, TaskStatus.COMPLETED) for task in begun))

    assert await ready_events(session, begun) == {}
    assert await ready_events(session, waiting) == {task.id: 1 for task in waiting}


@pytest.mark.committed
async def test_who_began_to_wait_while_the_blocker_was_completed_is_told(
    signed_in: httpx2.AsyncClient, session: AsyncSession, database: Database, user: User
) -> None:
    task = await create_task(session, owner=user)
    blocker = await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS)
    async with database.unit_of_work() as waiter:
        await BlockerService(waiter).add(Actor.of(user), task.id, blocker.id)
        completion = asyncio.create_task(set_status(signed_in, blocker, TaskStatus.COMPLETED))
        await wait_for_lock_waiter(session)
    await completion

    assert [event.type for event in await events_of(session, task)] == ["task.blocked", "task.ready"]


@pytest.mark.committed
async def test_who_claims_while_a_blocker_is_added_comes_too_late(
    signed_in: httpx2.AsyncClient, session: AsyncSession, database: Database, user: User
) -> None:
    task = await create_task(session, owner=user)
    blocker = await create_task(session, owner=user)
    async with database.unit_of_work() as adder:
        await BlockerService(adder).add(Actor.of(user), task.id, blocker.id)
        claim = asyncio.create_task(signed_in.post(f"/tasks/{task.id}/claim"))
        await wait_for_lock_waiter(session)

    refused = await claim
    assert (refused.status_code, refused.json()["code"]) == (409, "blocked")
    assert [event.type for event in await events_of(session, task)] == ["task.blocked"]


@pytest.mark.committed
async def test_who_claims_while_the_task_is_edited_gets_it(
    signed_in: httpx2.AsyncClient, session: AsyncSession, database: Database, user: User
) -> None:
    task = await create_task(session, owner=user)
    async with database.unit_of_work() as editor:
        await editor.execute(text("UPDATE tasks SET version = version + 1 WHERE id = :id"), {"id": task.id})
        claim = asyncio.create_task(signed_in.post(f"/tasks/{task.id}/claim"))
        await wait_for_lock_waiter(session)

    assert ((await claim).status_code, (await claim).json()["version"]) == (200, 3)


@pytest.mark.committed
async def test_two_who_would_close_a_cycle_together_do_not(
    signed_in: httpx2.AsyncClient, session: AsyncSession, database: Database, user: User
) -> None:
    """Neither touches the tasks of the other, and neither sees what the other has not committed yet."""
    one, two, three, four = [await create_task(session, owner=user) for _ in range(4)]
    await block(session, two, three)
    await block(session, four, one)
    async with database.unit_of_work() as first:
        await BlockerService(first).add(Actor.of(user), one.id, two.id)
        second = asyncio.create_task(signed_in.put(f"/tasks/{three.id}/blockers/{four.id}"))
        await wait_for_lock_waiter(session)

    refused = await second
    assert (refused.status_code, refused.json()["code"]) == (409, "dependency_cycle")
    assert refused.json()["path"] == [str(task.id) for task in (three, four, one, two, three)]


@pytest.mark.committed
async def test_of_all_who_close_a_ring_at_once_one_is_refused(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    ring = [await create_task(session, owner=user) for _ in range(10)]
    steps = zip(ring, [*ring[1:], ring[0]], strict=True)

    answers = await asyncio.gather(
        *(signed_in.put(f"/tasks/{task.id}/blockers/{blocker.id}") for task, blocker in steps)
    )

    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [409]
    [refused] = [answer.json() for answer in answers if answer.status_code == 409]
    assert (refused["code"], len(refused["path"])) == ("dependency_cycle", 11)
