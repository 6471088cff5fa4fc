"""What forms and generated clients send of the fields that nobody has filled in: nothing, or null."""

from typing import Any

import httpx2
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Task, TaskPriority, TaskStatus, User
from tests.builders.tasks import create_task
from tests.utils.test_utils import events_of, problem

NOTHING = {"description": "", "category": "general", "impact_points": 0, "due_at": None}
FILLED: dict[str, Any] = {
    "description": "Two",
    "category": "greenhouse",
    "impact_points": 3,
    "priority": TaskPriority.HIGH,
}
# Without a condition, and with one that every task fulfils.
HEADERS = ({"Content-Type": "application/json"}, {"Content-Type": "application/json", "If-Match": "*"})


async def filled_task(session: AsyncSession, owner: User) -> Task:
    return await create_task(session, owner=owner, title="Orchids", **FILLED)


def fields_of(task: Task) -> dict[str, Any]:
    return {field: getattr(task, field) for field in NOTHING}


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize("headers", HEADERS, ids=["plain", "conditional"])
async def test_null_empties_the_fields_that_can_be_empty(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, method: str, headers: dict[str, str]
) -> None:
    task = await filled_task(session, user)

    answer = await signed_in.request(method, f"/tasks/{task.id}", json=dict.fromkeys(NOTHING), headers=headers)

    assert answer.status_code == 200, answer.text
    assert {field: answer.json()[field] for field in NOTHING} == NOTHING
    await session.refresh(task)
    assert fields_of(task) == NOTHING
    assert (task.title, task.priority, task.version) == ("Orchids", TaskPriority.HIGH, 2)
    [event] = await events_of(session, task)
    assert event.data == {"changed": {field: NOTHING[field] for field in ("description", "category", "impact_points")}}


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize("headers", HEADERS, ids=["plain", "conditional"])
@pytest.mark.parametrize("field", ["title", "priority", "status", "owner_id"])
async def test_null_is_refused_where_nothing_can_be_empty(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, method: str, headers: dict[str, str], field: str
) -> None:
    task = await filled_task(session, user)

    body = {"description": None, field: None}
    answer = await signed_in.request(method, f"/tasks/{task.id}", json=body, headers=headers)

    [fault] = problem(answer, 422)["errors"]
    assert (fault["pointer"], fault["code"]) == (f"/{field}", "null_not_allowed")
    assert "can't be empty" in fault["detail"]
    await session.refresh(task)
    assert (task.description, task.version) == ("Two", 1)
    assert await events_of(session, task) == []


async def test_a_batch_empties_the_same_fields(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await filled_task(session, user)

    item = {"op": "update", "id": str(task.id), "if_match": None, "body": dict.fromkeys(NOTHING)}
    answer = await signed_in.post("/tasks/batch", json={"mode": "atomic", "items": [item]})

    assert answer.status_code == 200, answer.text
    await session.refresh(task)
    assert fields_of(task) == NOTHING


@pytest.mark.parametrize("headers", [*HEADERS[:1], {"Idempotency-Key": "once"}], ids=["plain", "with a key"])
async def test_null_in_a_new_task_is_as_if_left_out(
    signed_in: httpx2.AsyncClient, session: AsyncSession, headers: dict[str, str]
) -> None:
    body = {"title": "Orchids", "status": None, "priority": None, **dict.fromkeys(NOTHING)}
    answer = await signed_in.post("/tasks", json=body, headers=headers)

    assert answer.status_code == 201, answer.text
    task = await session.get_one(Task, answer.json()["id"])
    assert fields_of(task) == NOTHING
    assert (task.status, task.priority) == (TaskStatus.DRAFT, TaskPriority.MEDIUM)


async def test_null_empties_what_can_be_empty_of_an_account(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    await signed_in.patch("/users/me", json={"role": "Gardener", "skills": ["watering"]})

    answer = await signed_in.put("/users/me", json={"role": None, "skills": None, "current_password": None})

    assert answer.status_code == 200, answer.text
    await session.refresh(user)
    assert (user.role, user.skills) == ("", [])


@pytest.mark.parametrize("field", ["display_name", "mail_notifications", "email", "password"])
async def test_null_is_refused_where_an_account_needs_something(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, field: str
) -> None:
    version = user.version

    answer = await signed_in.patch("/users/me", json={field: None, "role": "Gardener", "current_password": "x"})

    [fault] = problem(answer, 422)["errors"]
    assert (fault["pointer"], fault["code"]) == (f"/{field}", "null_not_allowed")
    await session.refresh(user)
    assert (user.role, user.version) == ("", version)


async def test_a_new_account_and_its_agent_take_null_for_nothing(
    client: httpx2.AsyncClient, signed_in: httpx2.AsyncClient
) -> None:
    somebody = {"display_name": "Ada", "role": None, "skills": None}
    credentials = {"email": "ada@example.org", "password": "correct horse battery"}

    registered = await client.post("/auth/register", json=somebody | credentials)
    made = await signed_in.post("/agents", json=somebody | {"scopes": ["tasks:read"], "expires_at": None})

    for account in (registered.json()["user"], made.json()["agent"]):
        assert (account["role"], account["skills"]) == ("", [])


async def test_null_for_every_wish_claims_any_task(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user, status=TaskStatus.AVAILABLE)

    wishes = dict.fromkeys(("category", "priority", "q", "wait", "lease_seconds"))
    answer = await signed_in.post("/tasks/claim-next", json=wishes)

    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == str(task.id)
    assert answer.json()["lease"]["expires_at"] is None
