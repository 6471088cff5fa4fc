"""A form sends all that it has at once: fields and status of a task together, by every way to change one."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Scope, Task, TaskStatus, User, UserTaskAssociation
from tests.builders.tasks import create_task
from tests.builders.tokens import create_token
from tests.conftest import ClientAs, ClientWith
from tests.integration.api.test_blockers import block
from tests.utils.test_utils import events_of, problem

Change = Callable[..., Awaitable[httpx2.Response]]
# Such a content is left to FastAPI.
OTHER = {"Content-Type": "application/vnd.hive+json"}


async def put(client: httpx2.AsyncClient, task: Task, body: dict[str, Any], **headers: str) -> httpx2.Response:
    return await client.put(f"/tasks/{task.id}", json=body, headers=headers)


async def patch_plainly(
    client: httpx2.AsyncClient, task: Task, body: dict[str, Any], **headers: str
) -> httpx2.Response:
    return await client.patch(f"/tasks/{task.id}", json=body, headers=headers)


async def patch(client: httpx2.AsyncClient, task: Task, body: dict[str, Any], **headers: str) -> httpx2.Response:
    return await client.patch(f"/tasks/{task.id}", json=body, headers=headers | OTHER)


EACH_WAY = pytest.mark.parametrize("change", [put, patch_plainly, patch])


async def told(session: AsyncSession, task: Task) -> list[tuple[str, int | None, Any]]:
    return [(event.type, event.task_version, event.audience) for event in await events_of(session, task)]


@EACH_WAY
async def test_fields_and_status_are_changed_together(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, change: Change
) -> None:
    task = await create_task(session, owner=user)

    answer = await change(signed_in, task, {"title": "Roses", "status": "in_progress"})

    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["title"], shown["status"], shown["assignee_id"]) == ("Roses", "in_progress", str(user.id))
    assert shown["version"] == 3
    assert answer.headers["etag"] == '"3"'
    assert shown == (await signed_in.get(f"/tasks/{task.id}")).json()
    edited, stepped = await events_of(session, task)
    assert (edited.type, edited.task_version, edited.data) == ("task.updated", 2, {"changed": {"title": "Roses"}})
    assert (stepped.type, stepped.task_version) == ("task.status_changed", 3)
    assert (stepped.data["old_status"], stepped.data["new_status"]) == ("available", "in_progress")
    hold = (await session.scalars(select(UserTaskAssociation).where(UserTaskAssociation.task_id == task.id))).one()
    assert (hold.user_id, hold.released_at) == (user.id, None)


@EACH_WAY
async def test_a_status_alone_is_one_step(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, change: Change
) -> None:
    task = await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS, impact_points=3)

    answer = await change(signed_in, task, {"status": "completed"})

    assert (answer.status_code, answer.json()["version"]) == (200, 2)
    assert answer.json()["completed_at"] is not None
    assert await told(session, task) == [("task.status_changed", 2, None)]


@EACH_WAY
@pytest.mark.parametrize("status", list(TaskStatus))
async def test_the_present_status_is_no_step(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, change: Change, status: TaskStatus
) -> None:
    task = await create_task(session, owner=user, status=status)

    same = await change(signed_in, task, {"status": status, "title": task.title})
    edited = await change(signed_in, task, {"status": status, "title": "Roses"})

    assert (same.json()["version"], edited.json()["version"]) == (1, 2)
    assert (edited.json()["title"], edited.json()["status"]) == ("Roses", status)
    assert [kind for kind, _, _ in await told(session, task)] == ["task.updated"]


@EACH_WAY
@pytest.mark.parametrize(
    ("old", "wanted"), [("draft", "completed"), ("available", "completed"), ("completed", "draft")]
)
async def test_a_step_that_the_table_lacks_changes_nothing(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, change: Change, old: str, wanted: str
) -> None:
    task = await create_task(session, owner=user, status=TaskStatus(old))

    answer = await change(signed_in, task, {"title": "Roses", "status": wanted})

    refused = problem(answer, 409)
    assert (refused["code"], refused["current"]) == ("invalid_transition", old)
    assert refused["allowed"]
    await session.refresh(task)
    assert (task.title, task.status, task.version) == ("Water the orchids", old, 1)
    assert await events_of(session, task) == []


@EACH_WAY
async def test_a_blocked_task_is_not_started_and_not_edited(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, change: Change
) -> None:
    task, blocker = [await create_task(session, owner=user) for _ in range(2)]
    await block(session, task, blocker)

    answer = await change(signed_in, task, {"title": "Roses", "status": "in_progress"})

    assert problem(answer, 409)["waiting_for"] == [str(blocker.id)]
    await session.refresh(task)
    assert (task.title, task.version) == ("Water the orchids", 1)


@EACH_WAY
async def test_completion_makes_those_ready_that_waited(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, change: Change
) -> None:
    blocker = await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS)
    task = await create_task(session, owner=user)
    await block(session, task, blocker)

    answer = await change(signed_in, blocker, {"description": "Done.", "status": "completed"})

    assert answer.status_code == 200
    assert [kind for kind, _, _ in await told(session, task)] == ["task.ready"]


@EACH_WAY
async def test_the_holder_takes_a_step_and_edits_nothing(
    signed_in_other: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User, change: Change
) -> None:
    task = await create_task(session, owner=user, assignee=other_user, status=TaskStatus.IN_PROGRESS)

    refused = await change(signed_in_other, task, {"title": "Roses", "status": "completed"})
    taken = await change(signed_in_other, task, {"status": "completed"})

    assert problem(refused, 403)["permission"] == "task:edit"
    assert (taken.status_code, taken.json()["title"]) == (200, "Water the orchids")
    assert [kind for kind, _, _ in await told(session, task)] == ["task.status_changed"]


@EACH_WAY
async def test_others_may_neither_step_nor_see_a_draft(
    signed_in_other: httpx2.AsyncClient, session: AsyncSession, user: User, change: Change
) -> None:
    task = await create_task(session, owner=user)
    draft = await create_task(session, owner=user, status=TaskStatus.DRAFT)

    refused = await change(signed_in_other, task, {"status": "in_progress"})
    unseen = await change(signed_in_other, draft, {"status": "available"})

    assert problem(refused, 403)["permission"] == "task:change_status"
    assert problem(unseen, 404)["code"] == "task_not_found"


@EACH_WAY
async def test_what_is_written_while_withdrawing_is_for_the_owner_alone(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, change: Change
) -> None:
    task = await create_task(session, owner=user)

    withdrawn = await change(signed_in, task, {"description": "The safe is open.", "status": "draft"})
    published = await change(signed_in, task, {"description": "", "status": "available"})

    assert (withdrawn.status_code, published.status_code) == (200, 200)
    assert await told(session, task) == [
        ("task.status_changed", 2, None),
        ("task.updated", 3, [user.id]),
        ("task.updated", 4, [user.id]),
        ("task.status_changed", 5, None),
    ]


@pytest.mark.parametrize("change", [put, patch])
async def test_conditions_hold_for_both_together(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, change: Change
) -> None:
    task = await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS, lease_token=4)
    form = {"title": "Roses", "status": "completed"}

    stale = await change(signed_in, task, form, **{"If-Match": '"2"'})
    lost = await change(signed_in, task, form, **{"Hive-Lease-Token": "3"})
    fresh = await change(signed_in, task, form, **{"If-Match": '"1"', "Hive-Lease-Token": "4"})

    assert problem(stale, 412)["current"]["version"] == 1
    assert problem(lost, 409)["code"] == "lease_lost"
    assert (fresh.status_code, fresh.json()["version"]) == (200, 3)


@EACH_WAY
async def test_a_status_that_is_none_is_refused(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, change: Change
) -> None:
    task = await create_task(session, owner=user)

    for status in (None, "", "done", 1):
        answer = await change(signed_in, task, {"title": "Roses", "status": status})
        assert problem(answer, 422)["errors"][0]["pointer"] == "/status"

    await session.refresh(task)
    assert task.version == 1


async def test_a_program_needs_the_scope_of_writing(client_with: ClientWith, session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user)
    claimer = await client_with(await create_token(session, user, scopes=[Scope.TASKS_CLAIM]))

    answer = await put(claimer, task, {"status": "in_progress"})

    assert problem(answer, 403)["needed_scope"] == "tasks:write"


@pytest.mark.parametrize("mode", ["atomic", "each"])
async def test_a_batch_takes_both_as_well(client_as: ClientAs, session: AsyncSession, user: User, mode: str) -> None:
    client = await client_as(user)
    good, bad = [await create_task(session, owner=user) for _ in range(2)]
    items = [
        {"op": "update", "id": str(task.id), "body": {"title": "Roses", "status": status}}
        for task, status in ((good, "in_progress"), (bad, "completed"))
    ]

    answer = await client.post("/tasks/batch", json={"mode": mode, "items": items})

    await session.refresh(bad)
    await session.refresh(good)
    assert (bad.title, bad.version) == ("Water the orchids", 1)
    if mode == "each":
        assert [item["status"] for item in answer.json()["items"]] == [200, 409]
        assert (good.title, good.status, good.version) == ("Roses", "in_progress", 3)
    else:
        assert problem(answer, 409)["index"] == 1
        assert (good.title, good.status, good.version) == ("Water the orchids", "available", 1)
        assert await events_of(session, good) == []
