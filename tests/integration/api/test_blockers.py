"""What a task waits for: its blockers, what they forbid, what is told of them, and to whom."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Event, EventType, Task, TaskBlocker, TaskStatus, User
from app.services import batch_locks, dependency_graph
from app.services.blocker_service import MOST_BLOCKERS, MOST_WAITING
from tests.builders.tasks import create_task, create_waiting_tasks
from tests.utils.test_utils import events_of, problem


async def block(session: AsyncSession, task: Task, *blockers: Task) -> None:
    """Make the task wait for the others."""
    session.add_all(TaskBlocker(task_id=task.id, blocker_id=each.id, created_by=task.owner_id) for each in blockers)
    await session.commit()


async def blockers_of(session: AsyncSession, task: Task) -> set[UUID]:
    return set(await session.scalars(select(TaskBlocker.blocker_id).where(TaskBlocker.task_id == task.id)))


async def told_of(session: AsyncSession, task: Task) -> list[tuple[str, int | None, dict[str, Any]]]:
    return [(event.type, event.task_version, event.data) for event in await events_of(session, task)]


async def chain(session: AsyncSession, owner: User, length: int) -> list[Task]:
    """Tasks of which each waits for the one before it."""
    tasks = [await create_task(session, owner=owner) for _ in range(length)]
    for blocker, task in pairwise(tasks):
        await block(session, task, blocker)
    return tasks


def path_of(answer: httpx2.Response) -> Sequence[str | None]:
    refusal = problem(answer, 409)
    assert refusal["code"] == "dependency_cycle"
    path: list[str | None] = refusal["path"]
    return path


async def test_a_task_is_made_to_wait_for_another_one_and_no_longer(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user)
    blocker = await create_task(session, owner=other_user, title="Buy soil")
    path = f"/tasks/{task.id}/blockers/{blocker.id}"

    added = await signed_in.put(path)
    again = await signed_in.put(path)
    listed = await signed_in.get(f"/tasks/{task.id}/blockers")

    assert (added.status_code, added.json()["version"], added.headers["ETag"]) == (200, 2, '"2"')
    assert again.json() == added.json() == (await signed_in.get(f"/tasks/{task.id}")).json()
    assert listed.json() == [(await signed_in.get(f"/tasks/{blocker.id}")).json()]
    row = await session.get_one(TaskBlocker, (task.id, blocker.id))
    assert row.created_by == user.id

    removed = await signed_in.delete(path)

    # The task is available, and waits for nothing any more: that is told as well.
    assert (removed.status_code, removed.json()["version"], removed.headers["ETag"]) == (200, 4, '"4"')
    assert await told_of(session, task) == [
        ("task.blocked", 2, {"blocker_id": str(blocker.id)}),
        ("task.unblocked", 3, {"blocker_id": str(blocker.id)}),
        ("task.ready", 4, {}),
    ]
    assert await events_of(session, blocker) == []
    assert problem(await signed_in.delete(path), 404)["code"] == "not_a_blocker"
    assert (await signed_in.get(f"/tasks/{task.id}/blockers")).json() == []


@pytest.mark.parametrize("start", ["claim", "step", "assign", "assign a draft"])
async def test_a_blocked_task_does_not_start(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User, start: str
) -> None:
    status = TaskStatus.DRAFT if start == "assign a draft" else TaskStatus.AVAILABLE
    task = await create_task(session, owner=user, status=status)
    open_one = await create_task(session, owner=other_user)
    begun = await create_task(session, owner=other_user, status=TaskStatus.IN_PROGRESS)
    hidden = await create_task(session, owner=other_user, status=TaskStatus.DRAFT)
    done = await create_task(session, owner=other_user, status=TaskStatus.COMPLETED)
    await block(session, task, open_one, begun, hidden, done)

    async def try_to_start() -> httpx2.Response:
        if start == "claim":
            return await signed_in.post(f"/tasks/{task.id}/claim")
        if start == "step":
            return await signed_in.put(f"/tasks/{task.id}/status", json={"status": "in_progress"})
        return await signed_in.post(f"/tasks/{task.id}/assign", json={"user_id": str(other_user.id)})

    refused = await try_to_start()

    refusal = problem(refused, 409)
    assert (refusal["code"], refusal["hidden"]) == ("blocked", 1)
    assert refusal["waiting_for"] == sorted([str(open_one.id), str(begun.id)])
    assert str(hidden.id) not in refused.text
    await session.refresh(task)
    assert (task.status, task.version, await events_of(session, task)) == (status, 1, [])

    for blocker in (open_one, begun, hidden):
        await session.delete(await session.get_one(TaskBlocker, (task.id, blocker.id)))
    await session.commit()
    assert (await try_to_start()).json()["status"] == "in_progress"


@pytest.mark.parametrize("length", [1, 2, 5])
async def test_no_cycle_is_closed(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, length: int
) -> None:
    tasks = await chain(session, user, length)
    first, last = tasks[0], tasks[-1]

    answer = await signed_in.put(f"/tasks/{first.id}/blockers/{last.id}")

    # Those that are further down the chain wait for those before them.
    assert path_of(answer) == [str(first.id), *(str(task.id) for task in reversed(tasks))]
    assert await blockers_of(session, first) == set()
    assert await events_of(session, first) == []


async def test_of_several_ways_the_shortest_is_named_and_what_is_hidden_is_not(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User
) -> None:
    first, *_, last = await chain(session, user, 6)
    hidden = await create_task(session, owner=other_user, status=TaskStatus.DRAFT)
    await block(session, last, hidden)
    await block(session, hidden, first)

    answer = await signed_in.put(f"/tasks/{first.id}/blockers/{last.id}")

    assert path_of(answer) == [str(first.id), str(last.id), None, str(first.id)]
    assert str(hidden.id) not in answer.text


async def test_whom_one_does_not_see_one_does_not_wait_for(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user)
    hidden = await create_task(session, owner=other_user, status=TaskStatus.DRAFT)

    for blocker_id in (hidden.id, uuid4()):
        refused = await signed_in.put(f"/tasks/{task.id}/blockers/{blocker_id}")
        assert problem(refused, 404)["code"] == "task_not_found"
        refused = await signed_in.delete(f"/tasks/{task.id}/blockers/{blocker_id}")
        assert problem(refused, 404)["code"] == "not_a_blocker"
    assert await blockers_of(session, task) == set()


async def test_one_gets_rid_of_a_blocker_that_was_hidden_meanwhile(
    signed_in: httpx2.AsyncClient,
    signed_in_other: httpx2.AsyncClient,
    session: AsyncSession,
    user: User,
    other_user: User,
) -> None:
    task = await create_task(session, owner=user)
    blocker = await create_task(session, owner=other_user)
    await signed_in.put(f"/tasks/{task.id}/blockers/{blocker.id}")
    await signed_in_other.put(f"/tasks/{blocker.id}/status", json={"status": "draft"})

    assert (await signed_in.get(f"/tasks/{task.id}/blockers")).json() == []
    removed = await signed_in.delete(f"/tasks/{task.id}/blockers/{blocker.id}")

    assert removed.status_code == 200
    assert [data for _, _, data in await told_of(session, task)] == [
        {"blocker_id": str(blocker.id)},
        {"blocker_id": None},
        {},
    ]


@pytest.mark.parametrize(
    ("status", "blocker_status", "is_named", "audience"),
    [
        (TaskStatus.AVAILABLE, TaskStatus.AVAILABLE, True, "all"),
        (TaskStatus.AVAILABLE, TaskStatus.DRAFT, False, "all"),
        (TaskStatus.DRAFT, TaskStatus.DRAFT, True, "owner"),
        (TaskStatus.DRAFT, TaskStatus.AVAILABLE, True, "owner"),
    ],
)
async def test_an_event_names_no_draft_to_those_who_may_not_see_it(
    signed_in: httpx2.AsyncClient,
    session: AsyncSession,
    user: User,
    status: TaskStatus,
    blocker_status: TaskStatus,
    is_named: bool,
    audience: str,
) -> None:
    task = await create_task(session, owner=user, status=status)
    blocker = await create_task(session, owner=user, status=blocker_status)

    await signed_in.put(f"/tasks/{task.id}/blockers/{blocker.id}")
    await signed_in.delete(f"/tasks/{blocker.id}")

    events = await events_of(session, task)
    named = {"blocker_id": str(blocker.id) if is_named else None}
    assert [event.data for event in events[:2]] == [named, named]
    assert {tuple(event.audience or ()) for event in events} == {(user.id,) if audience == "owner" else ()}
    assert [event.type for event in events[2:]] == ([] if status is TaskStatus.DRAFT else ["task.ready"])


async def test_an_admin_names_no_draft_to_the_owner_of_another_one(
    signed_in_admin: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user, status=TaskStatus.DRAFT)
    blocker = await create_task(session, owner=other_user, status=TaskStatus.DRAFT)

    answer = await signed_in_admin.put(f"/tasks/{task.id}/blockers/{blocker.id}")

    assert answer.status_code == 200
    [event] = await events_of(session, task)
    assert (event.data, event.audience) == ({"blocker_id": None}, [user.id])


async def test_one_in_progress_goes_on_and_waits_once_it_is_given_back(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS)
    blocker = await create_task(session, owner=user)

    assert (await signed_in.put(f"/tasks/{task.id}/blockers/{blocker.id}")).json()["status"] == "in_progress"
    await signed_in.delete(f"/tasks/{task.id}/assign")
    refused = await signed_in.post(f"/tasks/{task.id}/claim")

    assert problem(refused, 409)["waiting_for"] == [str(blocker.id)]


async def test_a_completed_one_waits_for_nothing_new_and_may_be_reopened(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user, status=TaskStatus.COMPLETED)
    blocker = await create_task(session, owner=user)
    refused = await signed_in.put(f"/tasks/{task.id}/blockers/{blocker.id}")
    await block(session, task, blocker)
    reopened = await signed_in.put(f"/tasks/{task.id}/status", json={"status": "in_progress"})

    refusal = problem(refused, 409)
    assert (refusal["code"], refusal["allowed"]) == ("already_completed", ["in_progress"])
    assert (reopened.status_code, reopened.json()["status"]) == (200, "in_progress")


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_stale_change_of_blockers_is_refused(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, method: str
) -> None:
    task, blocker = await create_task(session, owner=user), await create_task(session, owner=user)
    if method == "DELETE":
        await block(session, task, blocker)
    before = await blockers_of(session, task)
    path = f"/tasks/{task.id}/blockers/{blocker.id}"

    refused = await signed_in.request(method, path, headers={"If-Match": '"7"'})
    assert problem(refused, 412)["current"]["version"] == 1
    assert await blockers_of(session, task) == before
    assert (await signed_in.request(method, path, headers={"If-Match": '"1"'})).status_code == 200
    assert len(list(await session.scalars(select(Event)))) == (1 if method == "PUT" else 2)


async def test_blockers_come_in_pages(signed_in: httpx2.AsyncClient, session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user)
    blockers = [await create_task(session, owner=user) for _ in range(5)]
    await block(session, task, *blockers)
    found: list[str] = []
    path = f"/tasks/{task.id}/blockers?limit=2"

    while path:
        page = await signed_in.get(path)
        found += [each["id"] for each in page.json()]
        path = page.links.get("next", {}).get("url", "").removeprefix("/api/v1")

    assert sorted(found) == sorted(str(blocker.id) for blocker in blockers)


async def test_for_one_task_so_many_may_wait_and_all_are_told_of_its_end(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    blocker, another = [await create_task(session, owner=user) for _ in range(2)]
    await create_waiting_tasks(session, MOST_WAITING - 1, blocker=blocker)
    last, one_more = [await create_task(session, owner=user) for _ in range(2)]

    assert (await signed_in.put(f"/tasks/{last.id}/blockers/{blocker.id}")).status_code == 200
    refused = await signed_in.put(f"/tasks/{one_more.id}/blockers/{blocker.id}")
    again = await signed_in.put(f"/tasks/{last.id}/blockers/{blocker.id}")
    elsewhere = await signed_in.put(f"/tasks/{one_more.id}/blockers/{another.id}")

    assert problem(refused, 409)["code"] == "too_many_waiting"
    assert (again.status_code, elsewhere.status_code) == (200, 200)
    assert await blockers_of(session, one_more) == {another.id}
    assert (await signed_in.delete(f"/tasks/{blocker.id}")).status_code == 200
    told = select(func.count(Event.task_id.distinct())).where(Event.type == EventType.TASK_READY)
    assert await session.scalar(told) == MOST_WAITING


async def test_a_task_may_wait_for_so_many(signed_in: httpx2.AsyncClient, session: AsyncSession, user: User) -> None:
    task, blocker = [await create_task(session, owner=user) for _ in range(2)]
    await block(session, task, *[await create_task(session, owner=user) for _ in range(MOST_BLOCKERS)])

    refused = await signed_in.put(f"/tasks/{task.id}/blockers/{blocker.id}")

    assert problem(refused, 409)["code"] == "too_many_blockers"
    assert blocker.id not in await blockers_of(session, task)


async def test_a_graph_that_is_too_large_to_look_through_gets_no_larger(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dependency_graph, "MOST_REACHED", 4)
    tasks = await chain(session, user, 6)

    refused = await signed_in.put(f"/tasks/{(await create_task(session, owner=user)).id}/blockers/{tasks[-1].id}")
    cycle = await signed_in.put(f"/tasks/{tasks[1].id}/blockers/{tasks[4].id}")
    added = await signed_in.put(f"/tasks/{(await create_task(session, owner=user)).id}/blockers/{tasks[3].id}")

    assert problem(refused, 409)["code"] == "too_many_dependencies"
    assert path_of(cycle) == [str(tasks[number].id) for number in (1, 4, 3, 2, 1)]
    assert added.status_code == 200


@pytest.mark.parametrize("mode", ["atomic", "each"])
async def test_a_batch_ends_only_what_so_many_wait_for(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_locks, "MOST_TOLD", 4)
    blockers = [await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS) for _ in range(2)]
    for blocker, waiting in zip(blockers, (3, 2), strict=True):
        await create_waiting_tasks(session, waiting, blocker=blocker)
    items = [
        {"op": "delete", "id": str(blockers[0].id)},
        {"op": "status", "id": str(blockers[1].id), "body": {"status": "completed"}},
    ]

    refused = await signed_in.post("/tasks/batch", json={"mode": mode, "items": items})
    done = await signed_in.post("/tasks/batch", json={"mode": mode, "items": items[:1]})

    assert problem(refused, 409)["code"] == "too_many_waiting"
    assert (done.status_code, done.json()["items"][0]["status"]) == (200, 200)
