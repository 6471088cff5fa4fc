"""Lost updates are refused: every change may say which version it is meant for, and a stale one changes nothing."""

import asyncio
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Event, Task, TaskStatus, User
from tests.builders.tasks import create_task
from tests.builders.users import PASSWORD
from tests.conftest import ClientAs
from tests.utils.test_utils import events_of, problem

STALE = '"999"'

WRITES: list[tuple[str, str, dict[str, Any] | None, TaskStatus]] = [
    ("PUT", "", {"title": "Roses"}, TaskStatus.AVAILABLE),
    ("PATCH", "", {"title": "Roses"}, TaskStatus.AVAILABLE),
    ("DELETE", "", None, TaskStatus.AVAILABLE),
    ("POST", "/assign", {"user_id": "other"}, TaskStatus.AVAILABLE),
    ("DELETE", "/assign", None, TaskStatus.IN_PROGRESS),
    ("POST", "/claim", None, TaskStatus.AVAILABLE),
    ("PUT", "/status", {"status": "in_progress"}, TaskStatus.AVAILABLE),
]
EACH_WRITE = pytest.mark.parametrize(("method", "path", "body", "status"), WRITES)


def body_for(body: dict[str, Any] | None, other: User) -> dict[str, Any] | None:
    return {name: str(other.id) if value == "other" else value for name, value in body.items()} if body else None


@EACH_WRITE
async def test_a_stale_change_is_refused_with_the_present_state(
    signed_in: httpx2.AsyncClient,
    session: AsyncSession,
    user: User,
    other_user: User,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    status: TaskStatus,
) -> None:
    task = await create_task(session, owner=user, status=status)
    present = (await signed_in.get(f"/tasks/{task.id}")).json()

    answer = await signed_in.request(
        method, f"/tasks/{task.id}{path}", json=body_for(body, other_user), headers={"If-Match": STALE}
    )

    refusal = problem(answer, 412)
    assert (refusal["code"], refusal["current"], answer.headers["ETag"]) == ("stale_version", present, '"1"')
    assert (await signed_in.get(f"/tasks/{task.id}")).json() == present
    assert await events_of(session, task) == []


@EACH_WRITE
async def test_a_change_of_the_version_that_is_there_happens(
    signed_in: httpx2.AsyncClient,
    session: AsyncSession,
    user: User,
    other_user: User,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    status: TaskStatus,
) -> None:
    task = await create_task(session, owner=user, status=status)

    answer = await signed_in.request(
        method, f"/tasks/{task.id}{path}", json=body_for(body, other_user), headers={"If-Match": '"7", "1"'}
    )

    assert answer.status_code == 200, answer.text
    [event] = await events_of(session, task)
    assert event.task_version == 2
    assert answer.headers.get("ETag") == (None if (method, path) == ("DELETE", "") else '"2"')


@pytest.mark.parametrize(
    ("condition", "status"),
    [("*", 200), ('"1"', 200), ('"0" , "1"', 200), ('W/"1"', 412), ('"one"', 412), ('""', 412), (f'"{"9" * 40}"', 412)],
)
async def test_tags_are_compared_strongly(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, condition: str, status: int
) -> None:
    task = await create_task(session, owner=user)

    answer = await signed_in.patch(f"/tasks/{task.id}", json={"title": "Roses"}, headers={"If-Match": condition})

    assert answer.status_code == status


@pytest.mark.parametrize("condition", ["1", '"1', "", '"1" "2"', '*, "1"'])
async def test_what_is_no_tag_is_told_so(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, condition: str
) -> None:
    task = await create_task(session, owner=user)

    answer = await signed_in.patch(f"/tasks/{task.id}", json={"title": "Roses"}, headers={"If-Match": condition})

    [fault] = problem(answer, 422)["errors"]
    assert (fault["in"], fault["code"]) == ("header", "invalid_etag")


async def test_what_one_has_is_not_sent_again(signed_in: httpx2.AsyncClient, session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user)
    for path in (f"/tasks/{task.id}", "/users/me"):
        first = await signed_in.get(path)
        tag = first.headers["ETag"]
        for condition in (tag, f"W/{tag}", "*", f'"0", {tag}'):
            again = await signed_in.get(path, headers={"If-None-Match": condition})
            assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
        assert (await signed_in.get(path, headers={"If-None-Match": '"0"'})).json() == first.json()


async def test_what_one_may_not_see_is_not_there_whatever_the_condition(
    signed_in_other: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    draft = await create_task(session, owner=user, status=TaskStatus.DRAFT)

    for headers in ({"If-Match": STALE}, {"If-None-Match": "*"}):
        assert problem(await signed_in_other.get(f"/tasks/{draft.id}", headers=headers), 404)
    answer = await signed_in_other.patch(f"/tasks/{draft.id}", json={"title": "x"}, headers={"If-Match": STALE})
    assert "current" not in problem(answer, 404)


async def test_nothing_given_changes_nothing_and_tells_nothing(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)

    answer = await signed_in.patch(f"/tasks/{task.id}", json={})

    assert (answer.json()["version"], answer.headers["ETag"]) == (1, '"1"')
    assert await events_of(session, task) == []


async def test_without_a_condition_each_write_touches_what_it_names_alone(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)

    await signed_in.patch(f"/tasks/{task.id}", json={"title": "Roses"})
    answer = await signed_in.patch(f"/tasks/{task.id}", json={"category": "garden"})

    assert (answer.json()["title"], answer.json()["category"], answer.json()["version"]) == ("Roses", "garden", 3)


async def test_accounts_have_versions_too(signed_in: httpx2.AsyncClient, session: AsyncSession, user: User) -> None:
    tag = (await signed_in.get("/users/me")).headers["ETag"]

    changed = await signed_in.patch("/users/me", json={"role": "Gardener"}, headers={"If-Match": tag})
    same = await signed_in.patch("/users/me", json={"role": "Gardener"})
    stale = await signed_in.patch("/users/me", json={"role": "Florist"}, headers={"If-Match": tag})
    kept = await signed_in.delete("/users/me", headers={"If-Match": tag})

    assert (changed.headers["ETag"], same.headers["ETag"]) == ('"2"', '"2"')
    # Whether somebody is online is no part of the version.
    assert problem(stale, 412)["current"] | {"is_online": False} == same.json()
    assert problem(kept, 412)["code"] == "stale_version"
    await session.refresh(user)
    assert (user.role, user.is_active, user.version) == ("Gardener", True, 2)


@pytest.mark.parametrize("change", [{"email": "new@example.org"}, {"password": "a longer password"}])
async def test_other_credentials_are_another_version_of_a_profile(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, change: dict[str, str]
) -> None:
    tag = (await signed_in.get("/users/me")).headers["ETag"]

    changed = await signed_in.patch("/users/me", json=change | {"current_password": PASSWORD})
    stale = await signed_in.patch("/users/me", json={"role": "Florist"}, headers={"If-Match": tag})

    assert (tag, changed.status_code, changed.headers["ETag"]) == ('"1"', 200, '"2"')
    assert problem(stale, 412)["code"] == "stale_version"
    await session.refresh(user)
    assert (user.version, user.role) == (2, "")


async def test_a_server_can_want_a_condition_with_each_change(
    app: FastAPI, client_as: ClientAs, session: AsyncSession, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await create_task(session, owner=user)
    strict = app.state.hive.settings.model_copy(update={"require_if_match": True})
    app.state.hive = type(app.state.hive)(
        **{
            name: strict if name == "settings" else getattr(app.state.hive, name)
            for name in app.state.hive.__dataclass_fields__
        }
    )
    client = await client_as(user)

    refused = await client.patch(f"/tasks/{task.id}", json={"title": "Roses"})
    made = await client.post("/tasks", json={"title": "Tulips"})
    changed = await client.patch(f"/tasks/{task.id}", json={"title": "Roses"}, headers={"If-Match": '"1"'})

    assert problem(refused, 428)["code"] == "precondition_required"
    assert (made.status_code, changed.status_code) == (201, 200)


@pytest.mark.committed
async def test_of_fifty_changes_of_one_version_one_happens(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)

    answers = await asyncio.gather(
        *(
            signed_in.patch(f"/tasks/{task.id}", json={"title": f"Roses {n}"}, headers={"If-Match": '"1"'})
            for n in range(50)
        )
    )

    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 49
    [winner] = [answer.json() for answer in answers if answer.status_code == 200]
    assert all(answer.json()["current"] == winner for answer in answers if answer.status_code == 412)
    row = await session.get_one(Task, task.id, populate_existing=True)
    assert (row.title, row.version) == (winner["title"], 2)
    assert len(list(await session.scalars(select(Event).where(Event.task_id == task.id)))) == 1
