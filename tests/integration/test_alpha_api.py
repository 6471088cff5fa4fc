"""Accounts and tasks over HTTP: the answer, the row and the event."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.models import Event, Task, TaskPriority, TaskStatus, User
from tests.builders.tasks import create_task
from tests.builders.users import PASSWORD, create_user
from tests.conftest import ClientAs, token_of
from tests.utils.test_utils import FakeNetwork, events_of, problem

ADA = {"email": "ada@example.org", "password": "correct horse battery", "display_name": "Ada"}


async def test_register_makes_an_account_that_can_sign_in(client: httpx2.AsyncClient, session: AsyncSession) -> None:
    answer = await client.post("/auth/register", json=ADA | {"role": "Designer", "skills": ["analysis"]})

    assert answer.status_code == 201
    assert answer.json()["message"] == "User created"
    shown = answer.json()["user"]
    assert shown["email"] == "ada@example.org"
    assert (shown["active"], shown["admin"], shown["impact_score"]) == (True, False, 0)
    assert "password" not in str(shown)
    stored = await session.get_one(User, UUID(shown["id"]))
    assert (stored.role, stored.skills) == ("Designer", ["analysis"])
    assert stored.password_hash.startswith("$argon2id$")

    signed_in = await client.post("/auth/login", json={"email": "ADA@example.org", "password": ADA["password"]})
    assert signed_in.status_code == 200
    assert signed_in.json()["token_type"] == "bearer"
    assert signed_in.json()["expires_in"] == 900
    me = await client.get("/users/me", headers={"Authorization": f"Bearer {signed_in.json()['access_token']}"})
    assert me.json()["id"] == shown["id"]


async def test_an_address_is_taken_whatever_its_case(client: httpx2.AsyncClient, session: AsyncSession) -> None:
    await create_user(session, email="ada@example.org")

    answer = await client.post("/auth/register", json=ADA | {"email": "Ada@Example.ORG"})

    assert problem(answer, 409)["code"] == "email_taken"
    assert await session.scalar(select(func.count()).select_from(User)) == 1


TURKISH_LOWER = """
    CREATE FUNCTION public.lower(text) RETURNS text IMMUTABLE LANGUAGE sql
    AS $$ SELECT pg_catalog.lower(translate($1, 'I\u0130', '\u0131i')) $$
"""


@pytest.mark.parametrize(
    "spelling", ["adai@example.org", "ADAI@EXAMPLE.ORG", "AdaI@Example.Org", "adaI@\uff45xample.org"]
)
async def test_account_is_one_on_a_database_with_a_turkish_locale(
    client: httpx2.AsyncClient, session: AsyncSession, spelling: str
) -> None:
    # Such a locale makes a dotless \u0131 of an I.
    await session.execute(text(TURKISH_LOWER))
    await session.execute(text("SET LOCAL search_path = public, pg_catalog"))
    await session.commit()
    made = await client.post("/auth/register", json=ADA | {"email": "AdaI@example.org"})
    assert made.status_code == 201

    again = await client.post("/auth/register", json=ADA | {"email": spelling})
    by_body = await client.post("/auth/login", json={"email": spelling, "password": ADA["password"]})
    by_form = await client.post("/auth/token", data={"username": spelling, "password": ADA["password"]})

    assert problem(again, 409)["code"] == "email_taken"
    assert (by_body.status_code, by_form.status_code) == (200, 200)
    assert await session.scalar(select(User.email)) == "AdaI@example.org"


async def test_address_of_somebody_else_is_taken_whatever_its_case(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    await create_user(session, email="grace@example.org")

    taken = await signed_in.patch("/users/me", json={"email": "GRACE@example.org", "current_password": PASSWORD})
    own = await signed_in.patch("/users/me", json={"email": user.email.upper(), "current_password": PASSWORD})

    assert problem(taken, 409)["code"] == "email_taken"
    assert own.json()["email"].partition("@")[0] == user.email.partition("@")[0].upper()
    await session.refresh(user)
    assert user.email_key == user.email.casefold()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("grace.hopper@example.org", "grace.hopper"),
        ("Grace+hive@Example.ORG", "Grace+hive"),
        ("o'brien@b\u00fccher.example", "o'brien"),
        (f"{'g' * 64}@example.org", "g" * 64),
    ],
)
@pytest.mark.parametrize("optional", [{}, {"display_name": None}], ids=["left out", "null"])
async def test_register_takes_the_name_from_the_address(
    client: httpx2.AsyncClient, session: AsyncSession, address: str, expected: str, optional: dict[str, None]
) -> None:
    answer = await client.post("/auth/register", json={"email": address, "password": ADA["password"]} | optional)

    assert answer.status_code == 201
    assert answer.json()["user"]["display_name"] == expected
    stored = await session.get_one(User, UUID(answer.json()["user"]["id"]))
    assert stored.display_name == expected


@pytest.mark.parametrize("name", ["", " \t ", "x" * 101, "a\nb"])
async def test_register_refuses_a_name_that_is_given_and_none(client: httpx2.AsyncClient, name: str) -> None:
    answer = await client.post("/auth/register", json=ADA | {"display_name": name})

    assert [error["pointer"] for error in problem(answer, 422)["errors"]] == ["/display_name"]


@pytest.mark.parametrize("field", ["id", "admin", "is_admin", "active", "impact_score", "created_at"])
async def test_register_refuses_what_its_subject_cannot_set(client: httpx2.AsyncClient, field: str) -> None:
    answer = await client.post("/auth/register", json=ADA | {field: True})

    assert [error["pointer"] for error in problem(answer, 422)["errors"]] == [f"/{field}"]


async def test_the_oauth2_form_signs_in_as_well(client: httpx2.AsyncClient, user: User) -> None:
    form = {"username": user.email, "password": PASSWORD, "grant_type": "password"}

    answer = await client.post("/auth/token", data=form)

    assert answer.status_code == 200
    assert set(answer.json()) == {"access_token", "token_type", "expires_in", "refresh_token"}


async def test_put_and_patch_of_me_change_only_what_is_given(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    for method in ("PUT", "PATCH"):
        answer = await signed_in.request(method, "/users/me", json={"role": f"by {method}"})
        assert answer.status_code == 200
        assert (answer.json()["role"], answer.json()["display_name"]) == (f"by {method}", "Ada")
    await session.refresh(user)
    assert user.role == "by PATCH"


async def test_a_new_password_needs_the_current_one(
    signed_in: httpx2.AsyncClient, client: httpx2.AsyncClient, user: User
) -> None:
    new = "an even longer password"
    without = await signed_in.patch("/users/me", json={"password": new})
    assert problem(without, 422)["errors"][0]["code"] == "current_password_required"
    wrong = await signed_in.patch("/users/me", json={"password": new, "current_password": "not this one"})
    assert problem(wrong, 403)["code"] == "wrong_password"

    right = await signed_in.patch("/users/me", json={"password": new, "current_password": PASSWORD})

    assert right.status_code == 200
    old = await client.post("/auth/login", json={"email": user.email, "password": PASSWORD})
    assert old.status_code == 401
    assert (await client.post("/auth/login", json={"email": user.email, "password": new})).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("proof", [{}, {"current_password": ""}, {"current_password": None}])
async def test_the_address_that_one_has_needs_no_password(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, method: str, proof: dict[str, str | None]
) -> None:
    address = user.email

    same = await signed_in.request(method, "/users/me", json={"email": address, "role": "Gardener"} | proof)
    in_capitals = await signed_in.request(method, "/users/me", json={"email": address.upper()} | proof)
    other = await signed_in.request(method, "/users/me", json={"email": "eve@example.org", "role": "Eve"} | proof)

    assert (same.status_code, same.json()["role"], same.json()["version"]) == (200, "Gardener", 2)
    assert (in_capitals.status_code, in_capitals.json()["version"]) == (200, 2)
    [fault] = problem(other, 422)["errors"]
    assert (fault["pointer"], fault["code"]) == ("/current_password", "current_password_required")
    await session.refresh(user)
    assert (user.email, user.role) == (address, "Gardener")


async def test_a_new_address_comes_with_the_password(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    body = {"email": "lovelace@example.org", "current_password": PASSWORD}

    answer = await signed_in.patch("/users/me", json=body)

    assert (answer.status_code, answer.json()["email"]) == (200, "lovelace@example.org")
    await session.refresh(user)
    assert user.email == "lovelace@example.org"


async def test_one_is_told_whether_one_is_active_and_online(
    app: FastAPI, client: httpx2.AsyncClient, signed_in: httpx2.AsyncClient, user: User, settings: Settings
) -> None:
    made = (await client.post("/auth/register", json=ADA | {"email": "new@example.org"})).json()["user"]
    shown = (await signed_in.get("/users/me")).json()
    async with FakeNetwork(query=f"token={token_of(user, settings)}").talk_to(app) as network:
        network.say('{"type": "ping"}')
        await network.text()
        by_socket = [
            (await signed_in.get("/users/me")).json(),
            (await signed_in.put("/users/me", json={"role": "Gardener"})).json(),
            (await signed_in.patch("/users/me", json={"role": ""})).json(),
        ]

    assert [(each["is_active"], each["active"], each["is_online"]) for each in (made, shown)] == [
        (True, True, False)
    ] * 2
    assert [(each["is_active"], each["is_online"]) for each in by_socket] == [(True, True)] * 3


async def test_deactivating_oneself_ends_the_token_and_releases_tasks(
    signed_in: httpx2.AsyncClient,
    client: httpx2.AsyncClient,
    session: AsyncSession,
    user: User,
    other_user: User,
) -> None:
    held = await create_task(session, owner=other_user, assignee=user, status=TaskStatus.IN_PROGRESS)
    finished = await create_task(session, owner=other_user, assignee=user, status=TaskStatus.COMPLETED)

    answer = await signed_in.delete("/users/me")

    assert answer.status_code == 200
    assert answer.json() == {"message": "Account deactivated"}
    assert (await signed_in.get("/users/me")).status_code == 401
    credentials = {"email": user.email, "password": PASSWORD}
    assert problem(await client.post("/auth/login", json=credentials), 401)["code"] == "invalid_credentials"
    await session.refresh(held)
    assert (held.status, held.assignee_id, held.version) == (TaskStatus.AVAILABLE, None, 2)
    await session.refresh(finished)
    assert finished.assignee_id == user.id
    [event] = await events_of(session, held)
    assert event.type == "task.unassigned"
    assert event.data["previous_assignee_id"] == str(user.id)


async def test_the_directory_shows_people_and_no_addresses(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User
) -> None:
    await create_user(session, display_name="Gone", is_active=False)

    answer = await signed_in.get("/users")

    assert [entry["display_name"] for entry in answer.json()] == ["Ada", "Grace"]
    assert set(answer.json()[0]) == {
        "id",
        "display_name",
        "role",
        "skills",
        "impact_score",
        "online",
        "type",
        "owner_id",
    }
    one = await signed_in.get(f"/users/{other_user.id}")
    assert one.json() == answer.json()[1]
    assert "@" not in answer.text + one.text
    assert problem(await signed_in.get(f"/users/{uuid4()}"), 404)["code"] == "user_not_found"


async def test_the_directory_comes_in_pages(signed_in: httpx2.AsyncClient, session: AsyncSession, user: User) -> None:
    for name in ("Barbara", "Barbara", "Edsger", "Donald"):
        await create_user(session, display_name=name)

    names, url = [], "/users?limit=2"
    while url:
        answer = await signed_in.get(url)
        names += [entry["display_name"] for entry in answer.json()]
        url = answer.links.get("next", {}).get("url", "").removeprefix("/api/v1")

    assert names == ["Ada", "Barbara", "Barbara", "Donald", "Edsger"]


async def test_create_task_answers_stores_and_tells(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    body = {
        "title": "Water the orchids",
        "description": "All of them.",
        "category": "greenhouse",
        "priority": "high",
        "impact_points": 5,
        "due_at": "2030-01-02T03:04:05+02:00",
    }

    answer = await signed_in.post("/tasks", json=body)

    assert answer.status_code == 201
    shown = answer.json()
    assert answer.headers["Location"] == f"/api/v1/tasks/{shown['id']}"
    assert shown | body | {"due_at": "2030-01-02T01:04:05Z"} == shown
    assert (shown["status"], shown["owner_id"], shown["version"]) == ("draft", str(user.id), 1)
    assert UUID(shown["id"]).version == 7
    task = await session.get_one(Task, UUID(shown["id"]))
    assert (task.priority, task.due_at) == (TaskPriority.HIGH, datetime(2030, 1, 2, 1, 4, 5, tzinfo=UTC))
    [event] = await events_of(session, task)
    assert (event.type, event.task_version, event.actor_id, event.audience) == (
        "task.created",
        1,
        user.id,
        [user.id],
    )
    assert event.data["title"] == "Water the orchids"


async def test_a_draft_is_its_owners_and_admins_alone(
    signed_in: httpx2.AsyncClient,
    signed_in_other: httpx2.AsyncClient,
    signed_in_admin: httpx2.AsyncClient,
) -> None:
    task_id = (await signed_in.post("/tasks", json={"title": "Secret"})).json()["id"]

    assert (await signed_in.get(f"/tasks/{task_id}")).status_code == 200
    assert (await signed_in_admin.get(f"/tasks/{task_id}")).status_code == 200
    assert problem(await signed_in_other.get(f"/tasks/{task_id}"), 404)["code"] == "task_not_found"
    assert (await signed_in_other.get("/tasks")).json() == []
    assert (await signed_in_other.get("/tasks?q=secret")).json() == []
    for method, path in (("PATCH", ""), ("DELETE", ""), ("POST", "/claim"), ("GET", "/history")):
        body = {"title": "Mine"} if method == "PATCH" else None
        answer = await signed_in_other.request(method, f"/tasks/{task_id}{path}", json=body)
        assert problem(answer, 404)["code"] == "task_not_found"


async def test_update_changes_what_is_given_and_tells_what_changed(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user, description="as it was", due_at=datetime(2030, 1, 1, tzinfo=UTC))

    answer = await signed_in.patch(f"/tasks/{task.id}", json={"title": "New", "category": "general", "due_at": None})

    assert answer.status_code == 200
    shown = answer.json()
    assert (shown["title"], shown["description"], shown["due_at"]) == ("New", "as it was", None)
    assert shown["version"] == 2
    assert shown["updated_at"] >= shown["created_at"]
    [event] = await events_of(session, task)
    assert (event.type, event.data) == ("task.updated", {"changed": {"title": "New", "due_at": None}})


@pytest.mark.parametrize("body", [{}, {"title": "Water the orchids"}])
async def test_an_update_that_changes_nothing_writes_nothing(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, body: dict[str, str]
) -> None:
    task = await create_task(session, owner=user)

    answer = await signed_in.put(f"/tasks/{task.id}", json=body)

    assert answer.json()["version"] == 1
    assert await events_of(session, task) == []


async def test_delete_removes_the_task_and_keeps_its_events(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)

    answer = await signed_in.delete(f"/tasks/{task.id}")

    assert (answer.status_code, answer.json()) == (200, {"message": "Task deleted"})
    assert (await signed_in.get(f"/tasks/{task.id}")).status_code == 404
    assert await session.scalar(select(func.count()).select_from(Task)) == 0
    [event] = await events_of(session, task)
    assert (event.type, event.task_version) == ("task.deleted", 2)


async def test_who_sees_but_may_not_gets_a_403(
    signed_in_other: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user)

    for method, path, body in (
        ("PATCH", "", {"title": "Mine"}),
        ("DELETE", "", None),
        ("POST", "/assign", {"user_id": str(other_user.id)}),
        ("DELETE", "/assign", None),
        ("PUT", "/status", {"status": "draft"}),
    ):
        answer = await signed_in_other.request(method, f"/tasks/{task.id}{path}", json=body)
        assert problem(answer, 403)["code"] == "forbidden"
    await session.refresh(task)
    assert task.version == 1


async def test_the_dashboard_counts_for_anyone_and_names_no_draft(
    client: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    await create_user(session, is_active=False)
    await create_task(session, owner=user, status=TaskStatus.DRAFT, category="secret plans")
    await create_task(session, owner=user, category="garden", priority=TaskPriority.URGENT)

    answer = await client.get("/dashboard/summary")

    assert answer.status_code == 200
    assert {name: answer.json()[name] for name in ("tasks", "users")} == {
        "tasks": {
            "total": 2,
            "by_status": {"draft": 1, "available": 1, "in_progress": 0, "completed": 0},
            "by_priority": {"urgent": 1, "high": 0, "medium": 1, "low": 0},
            "by_category": {"garden": 1},
        },
        "users": {"total": 2, "active": 1, "online": 0},
    }


async def test_the_workflow_is_told(signed_in: httpx2.AsyncClient) -> None:
    assert (await signed_in.get("/tasks/workflow")).json() == {
        "draft": ["available"],
        "available": ["in_progress", "draft"],
        "in_progress": ["completed", "available"],
        "completed": ["in_progress"],
    }


async def test_event_types_are_told_with_their_schemas(signed_in: httpx2.AsyncClient) -> None:
    types = (await signed_in.get("/events/types")).json()

    assert "account.deactivated" not in types
    assert set(types["task.status_changed"]["properties"]) == {
        "old_status",
        "new_status",
        "assignee_id",
        "previous_assignee_id",
        "completed_at",
    }


async def test_history_is_the_tasks_events_newest_first_in_pages(
    signed_in: httpx2.AsyncClient, signed_in_other: httpx2.AsyncClient, user: User
) -> None:
    task_id = (await signed_in.post("/tasks", json={"title": "Orchids"})).json()["id"]
    await signed_in.put(f"/tasks/{task_id}/status", json={"status": "available"})
    await signed_in.patch(f"/tasks/{task_id}", json={"title": "All orchids"})

    whole = (await signed_in.get(f"/tasks/{task_id}/history")).json()
    first = await signed_in.get(f"/tasks/{task_id}/history?limit=2")
    second = await signed_in.get(first.links["next"]["url"].removeprefix("/api/v1"))

    assert [event["type"] for event in whole] == ["task.updated", "task.status_changed", "task.created"]
    assert whole[0]["actor"] == {"id": str(user.id), "type": "user"}
    assert whole[0]["task"] == {"id": task_id, "version": 3}
    assert first.json() + second.json() == whole
    assert "next" not in second.links
    # What happened while it was a draft stays with its owner.
    others = (await signed_in_other.get(f"/tasks/{task_id}/history")).json()
    assert [event["type"] for event in others] == ["task.updated", "task.status_changed"]


async def test_every_path_works_with_and_without_a_slash_at_its_end(signed_in: httpx2.AsyncClient) -> None:
    created = await signed_in.post("/tasks/", json={"title": "Orchids"})
    assert created.status_code == 201
    for path in ("/tasks", "/tasks/", f"/tasks/{created.json()['id']}/", "/users/me/", "/dashboard/summary/"):
        assert (await signed_in.get(path)).status_code == 200


async def test_a_deactivated_users_token_is_dead_at_once(
    client_as: ClientAs, session: AsyncSession, user: User
) -> None:
    client = await client_as(user)
    assert (await client.get("/tasks")).status_code == 200

    user.is_active = False
    await session.commit()

    assert problem(await client.get("/tasks"), 401)["code"] == "unauthorized"


async def test_no_event_is_left_behind_by_a_refused_change(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)

    await signed_in.put(f"/tasks/{task.id}/status", json={"status": "completed"})

    assert await session.scalar(select(func.count()).select_from(Event)) == 0
