"""A task is handed over to another owner, by every way to change one."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Task, TaskStatus, User
from tests.builders.agents import create_agent
from tests.builders.tasks import create_task
from tests.builders.users import create_user
from tests.conftest import ClientAs
from tests.utils.test_utils import events_of, problem

Change = Callable[..., Awaitable[httpx2.Response]]
# Such a content is left to FastAPI.
OTHER = {"Content-Type": "application/vnd.hive+json"}


async def patch_plainly(client: httpx2.AsyncClient, task: Task, body: dict[str, Any]) -> httpx2.Response:
    return await client.patch(f"/tasks/{task.id}", json=body)


async def patch(client: httpx2.AsyncClient, task: Task, body: dict[str, Any]) -> httpx2.Response:
    return await client.patch(f"/tasks/{task.id}", json=body, headers=OTHER)


async def put(client: httpx2.AsyncClient, task: Task, body: dict[str, Any]) -> httpx2.Response:
    return await client.put(f"/tasks/{task.id}", json=body)


NONSENSE: list[object] = [None, "", "me", 7, {}]
EACH_WAY = pytest.mark.parametrize("change", [patch_plainly, patch, put])


def to(owner: User | UUID) -> dict[str, str]:
    return {"owner_id": str(owner.id if isinstance(owner, User) else owner)}


@EACH_WAY
@pytest.mark.parametrize("status", list(TaskStatus))
async def test_the_owner_hands_a_task_over(
    signed_in: httpx2.AsyncClient,
    session: AsyncSession,
    user: User,
    other_user: User,
    change: Change,
    status: TaskStatus,
) -> None:
    task = await create_task(session, owner=user, status=status)

    answer = await change(signed_in, task, to(other_user))

    assert answer.status_code == 200, answer.text
    assert (answer.json()["owner_id"], answer.json()["version"]) == (str(other_user.id), 2)
    assert (answer.json()["status"], answer.headers["etag"]) == (status, '"2"')
    await session.refresh(task)
    assert task.owner_id == other_user.id
    [event] = await events_of(session, task)
    assert (event.type, event.task_version, event.actor_id) == ("task.updated", 2, user.id)
    assert event.data == {"changed": to(other_user)}
    # A draft is for both, who know that it was handed over, and for nobody else.
    assert event.audience == ([user.id, other_user.id] if status is TaskStatus.DRAFT else None)


@EACH_WAY
async def test_the_new_owner_has_the_rights_that_the_old_one_had(
    signed_in: httpx2.AsyncClient,
    signed_in_other: httpx2.AsyncClient,
    session: AsyncSession,
    user: User,
    other_user: User,
    change: Change,
) -> None:
    draft = await create_task(session, owner=user, status=TaskStatus.DRAFT)
    assert (await change(signed_in, draft, to(other_user))).status_code == 200

    unseen = await signed_in.get(f"/tasks/{draft.id}")
    edited = await change(signed_in_other, draft, {"title": "Roses"})
    refused = await change(signed_in, draft, to(user))

    assert problem(unseen, 404)["code"] == "task_not_found"
    assert edited.status_code == 200
    assert problem(refused, 404)["code"] == "task_not_found"
    listed = [(await client.get("/tasks")).json() for client in (signed_in, signed_in_other)]
    assert [len(tasks) for tasks in listed] == [0, 1]
    assert [event.audience for event in await events_of(session, draft)] == [
        [user.id, other_user.id],
        [other_user.id],
    ]


@EACH_WAY
async def test_an_admin_hands_over_what_others_own(
    signed_in_admin: httpx2.AsyncClient,
    session: AsyncSession,
    admin: User,
    user: User,
    other_user: User,
    change: Change,
) -> None:
    gone = await create_user(session, is_active=False)
    draft = await create_task(session, owner=gone, status=TaskStatus.DRAFT)

    answer = await change(signed_in_admin, draft, to(other_user))

    assert answer.json()["owner_id"] == str(other_user.id)
    [event] = await events_of(session, draft)
    assert (event.actor_id, event.audience) == (admin.id, [gone.id, other_user.id])


@EACH_WAY
async def test_nobody_else_takes_or_gives_a_task(
    signed_in_other: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User, change: Change
) -> None:
    task = await create_task(session, owner=user)
    held = await create_task(session, owner=user, assignee=other_user, status=TaskStatus.IN_PROGRESS)
    draft = await create_task(session, owner=user, status=TaskStatus.DRAFT)

    refused = [await change(signed_in_other, each, to(other_user)) for each in (task, held)]
    unseen = await change(signed_in_other, draft, to(other_user))

    assert [problem(answer, 403)["permission"] for answer in refused] == ["task:edit"] * 2
    assert problem(unseen, 404)["code"] == "task_not_found"
    for each in (task, held, draft):
        await session.refresh(each)
        assert (each.owner_id, each.version) == (user.id, 1)


@EACH_WAY
async def test_only_an_account_that_lives_can_own(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, change: Change
) -> None:
    task = await create_task(session, owner=user)
    gone = await create_user(session, is_active=False)

    for nobody in (uuid4(), gone.id):
        answer = await change(signed_in, task, {"title": "Roses"} | to(nobody))
        assert problem(answer, 404)["code"] == "user_not_found"
    for nonsense in NONSENSE:
        answer = await change(signed_in, task, {"title": "Roses", "owner_id": nonsense})
        assert problem(answer, 422)["errors"][0]["pointer"] == "/owner_id"

    await session.refresh(task)
    assert (task.title, task.owner_id, task.version) == ("Water the orchids", user.id, 1)
    assert await events_of(session, task) == []


@EACH_WAY
async def test_to_its_owner_a_task_is_not_handed_over(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, change: Change
) -> None:
    task = await create_task(session, owner=user)

    answer = await change(signed_in, task, to(user))

    assert (answer.status_code, answer.json()["version"]) == (200, 1)
    assert await events_of(session, task) == []


@EACH_WAY
async def test_an_agent_can_own_a_task(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, change: Change
) -> None:
    task = await create_task(session, owner=user)
    agent = await create_agent(session, owner=user)

    answer = await change(signed_in, task, to(agent))

    assert answer.json()["owner_id"] == str(agent.id)


@EACH_WAY
async def test_owner_fields_and_status_change_together(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User, change: Change
) -> None:
    """The owner who hands a task over takes the step as well, though it's not theirs any more then."""
    task = await create_task(session, owner=user, status=TaskStatus.DRAFT)

    answer = await change(signed_in, task, {"title": "Roses", "status": "available"} | to(other_user))

    assert (answer.status_code, answer.json()["version"]) == (200, 3)
    edited, stepped = await events_of(session, task)
    assert edited.data == {"changed": {"title": "Roses"} | to(other_user)}
    assert edited.audience == [user.id, other_user.id]
    assert (stepped.type, stepped.audience) == ("task.status_changed", None)


async def test_a_hand_over_is_meant_for_a_version(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user)

    stale = await signed_in.patch(f"/tasks/{task.id}", json=to(other_user), headers={"If-Match": '"2"'})
    fresh = await signed_in.patch(f"/tasks/{task.id}", json=to(other_user), headers={"If-Match": '"1"'})

    assert problem(stale, 412)["current"]["owner_id"] == str(user.id)
    assert fresh.json()["owner_id"] == str(other_user.id)


async def test_nobody_makes_a_task_for_another_owner(signed_in: httpx2.AsyncClient, other_user: User) -> None:
    answer = await signed_in.post("/tasks", json={"title": "Roses"} | to(other_user))

    assert problem(answer, 422)["errors"][0]["pointer"] == "/owner_id"


@pytest.mark.parametrize("mode", ["atomic", "each"])
async def test_a_batch_hands_over_as_well(
    client_as: ClientAs, session: AsyncSession, user: User, other_user: User, mode: str
) -> None:
    client = await client_as(user)
    good, bad = [await create_task(session, owner=user) for _ in range(2)]
    items = [
        {"op": "update", "id": str(task.id), "body": to(owner)}
        for task, owner in ((good, other_user.id), (bad, uuid4()))
    ]

    answer = await client.post("/tasks/batch", json={"mode": mode, "items": items})

    await session.refresh(good)
    if mode == "each":
        assert [item["status"] for item in answer.json()["items"]] == [200, 404]
        assert good.owner_id == other_user.id
    else:
        assert problem(answer, 404)["index"] == 1
        assert good.owner_id == user.id
