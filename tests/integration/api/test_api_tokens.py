"""Tokens for programs: shown once, stored as a hash, good for their scopes and for nothing else."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import ApiToken, Event, EventType, IdempotentRequest, Scope, Task, TaskStatus, User
from app.services import api_token_service
from app.services.api_token_service import ApiTokenService
from tests.builders.tasks import create_task
from tests.builders.tokens import create_token
from tests.conftest import ClientAs, ClientWith
from tests.utils.serving import Serving
from tests.utils.test_utils import FakeNetwork, events_of, problem

KEY = {"Idempotency-Key": "one-token"}
REPORT = {"name": "Nightly report", "scopes": ["tasks:read", "events:read"]}

R, W, C, E = Scope.TASKS_READ, Scope.TASKS_WRITE, Scope.TASKS_CLAIM, Scope.EVENTS_READ
# What each scope opens, as fits a task that the token's user owns and somebody else works on.
OPENED: list[tuple[Scope, str, str, Any]] = [
    (R, "GET", "/tasks", None),
    (R, "GET", "/tasks/workflow", None),
    (R, "GET", "/tasks/{held}", None),
    (R, "GET", "/tasks/{held}/history", None),
    (W, "POST", "/tasks", {"title": "Roses"}),
    (W, "PATCH", "/tasks/{held}", {"title": "Roses"}),
    (W, "PUT", "/tasks/{held}", {"title": "Roses"}),
    (W, "PUT", "/tasks/{held}/status", {"status": "completed"}),
    (W, "POST", "/tasks/{free}/assign", {"user_id": "{user}"}),
    (W, "DELETE", "/tasks/{held}/assign", None),
    (W, "DELETE", "/tasks/{held}", None),
    (C, "POST", "/tasks/{free}/claim", None),
    (C, "POST", "/tasks/claim-next", None),
    (C, "POST", "/tasks/{own}/lease", None),
    (E, "GET", "/events", None),
    (E, "GET", "/events/types", None),
    (E, "POST", "/events/ticket", None),
    (E, "GET", "/events/stream?after=9007199254740991", None),
]


async def make(client: httpx2.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await client.post("/users/me/tokens", json=REPORT | changes)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def only_token(session: AsyncSession) -> ApiToken:
    [row] = await session.scalars(select(ApiToken).execution_options(populate_existing=True))
    return row


async def test_a_token_is_shown_once_and_stored_as_a_hash(
    signed_in: httpx2.AsyncClient, client_with: ClientWith, session: AsyncSession, user: User
) -> None:
    answer = await signed_in.post("/users/me/tokens", json=REPORT)

    made = answer.json()
    token = made.pop("token")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    assert answer.headers["Location"] == f"/api/v1/users/me/tokens/{made['id']}"
    assert token.startswith("hive_")
    assert len(token) == 48
    assert (made["name"], made["scopes"]) == ("Nightly report", ["events:read", "tasks:read"])
    assert (made["expires_at"], made["last_used_at"]) == (None, None)
    shown = [await signed_in.get(path) for path in ("/users/me/tokens", f"/users/me/tokens/{made['id']}")]
    assert [shown[0].json(), shown[1].json()] == [[made], made]
    row = await only_token(session)
    assert row.user_id == user.id
    assert token not in str([getattr(row, column.key) for column in ApiToken.__table__.columns])
    assert await session.scalar(select(func.count()).select_from(Event)) == 0
    assert (await (await client_with(token)).get("/tasks")).status_code == 200


async def test_no_two_tokens_are_the_same(signed_in: httpx2.AsyncClient) -> None:
    assert len({(await make(signed_in))["token"] for _ in range(3)}) == 3


@pytest.mark.parametrize(("scope", "method", "path", "body"), OPENED)
async def test_each_route_is_opened_by_its_scope_alone(
    client_with: ClientWith,
    session: AsyncSession,
    user: User,
    other_user: User,
    scope: Scope,
    method: str,
    path: str,
    body: dict[str, str] | None,
) -> None:
    held = await create_task(session, owner=user, assignee=other_user, status=TaskStatus.IN_PROGRESS)
    free = await create_task(session, owner=user)
    soon = datetime.now(UTC) + timedelta(minutes=1)
    own = await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS, lease_expires_at=soon, lease_seconds=60)
    path = path.format(held=held.id, free=free.id, own=own.id)
    if body:
        body = {name: value.format(user=user.id) for name, value in body.items()}
    others = await client_with(await create_token(session, user, scopes=set(Scope) - {scope}))
    fitting = await client_with(await create_token(session, user, scopes={scope}))

    refused = await others.request(method, path, json=body)
    opened = await fitting.request(method, path, json=body)

    refusal = problem(refused, 403)
    assert (refusal["code"], refusal["needed_scope"]) == ("insufficient_scope", scope)
    assert refused.headers["WWW-Authenticate"] == f'Bearer error="insufficient_scope", scope="{scope}"'
    assert opened.is_success, opened.text


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/users/me", None),
        ("PATCH", "/users/me", {"role": "Gardener"}),
        ("DELETE", "/users/me", None),
        ("GET", "/users", None),
        ("GET", "/users/me/tokens", None),
        ("POST", "/users/me/tokens", REPORT),
        ("GET", "/users/me/sessions", None),
        ("DELETE", "/users/me/sessions", None),
        ("POST", "/auth/logout", None),
        ("GET", "/notifications", None),
        ("GET", "/admin/jobs", None),
    ],
)
async def test_what_has_no_scope_is_closed_to_tokens(
    client_with: ClientWith, session: AsyncSession, admin: User, method: str, path: str, body: Any
) -> None:
    program = await client_with(await create_token(session, admin))

    assert problem(await program.request(method, path, json=body), 403)["code"] == "not_for_tokens"


async def test_a_token_does_what_it_does_in_the_name_of_its_user(
    client_with: ClientWith, session: AsyncSession, user: User
) -> None:
    program = await client_with(await create_token(session, user))

    made = await program.post("/tasks", json={"title": "Roses"}, headers=KEY)
    again = await program.post("/tasks", json={"title": "Roses"}, headers=KEY)

    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == made.json()
    [task] = await session.scalars(select(Task))
    [event] = await events_of(session, task)
    assert (task.owner_id, event.actor_id, event.actor_type) == (user.id, user.id, "user")


async def test_who_lacks_the_scope_gets_nothing_by_the_key_of_another_token(
    client_with: ClientWith, session: AsyncSession, user: User
) -> None:
    writer = await client_with(await create_token(session, user, scopes={Scope.TASKS_WRITE}))
    reader = await client_with(await create_token(session, user, scopes={Scope.EVENTS_READ}))
    await writer.post("/tasks", json={"title": "Roses"}, headers=KEY)

    answer = await reader.post("/tasks", json={"title": "Roses"}, headers=KEY)

    assert problem(answer, 403)["code"] == "insufficient_scope"


async def test_a_token_that_has_run_out_is_refused(client_with: ClientWith, session: AsyncSession, user: User) -> None:
    past, future = (datetime.now(UTC) + timedelta(seconds=seconds) for seconds in (-1, 60))
    expired = await client_with(await create_token(session, user, expires_at=past))
    holding = await client_with(await create_token(session, user, expires_at=future))

    assert problem(await expired.get("/tasks"), 401)["code"] == "unauthorized"
    assert (await holding.get("/tasks")).status_code == 200


async def test_a_revoked_token_is_refused_at_once(
    signed_in: httpx2.AsyncClient, client_with: ClientWith, session: AsyncSession, user: User
) -> None:
    made = await make(signed_in)
    program = await client_with(made["token"])
    assert (await program.get("/tasks")).status_code == 200

    answer = await signed_in.delete(f"/users/me/tokens/{made['id']}")

    assert (answer.status_code, answer.json()) == (200, {"message": "Token revoked"})
    assert problem(await program.get("/tasks"), 401)["code"] == "unauthorized"
    [event] = await session.scalars(select(Event))
    assert (event.type, event.audience) == (EventType.SIGN_IN_ENDED, [])
    assert event.data == {"user_id": str(user.id), "sign_in_ids": [made["id"]]}
    again = await signed_in.delete(f"/users/me/tokens/{made['id']}")
    assert problem(again, 404)["code"] == "token_not_found"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_nobody_meets_a_token_of_somebody_else(
    signed_in: httpx2.AsyncClient, signed_in_admin: httpx2.AsyncClient, method: str
) -> None:
    made = await make(signed_in)

    answer = await signed_in_admin.request(method, f"/users/me/tokens/{made['id']}")

    assert problem(answer, 404)["code"] == "token_not_found"
    assert (await signed_in_admin.get("/users/me/tokens")).json() == []


async def test_a_repeated_request_makes_one_token_and_does_not_show_it_again(
    signed_in: httpx2.AsyncClient, session: AsyncSession
) -> None:
    first = await signed_in.post("/users/me/tokens", json=REPORT, headers=KEY)
    again = await signed_in.post("/users/me/tokens", json=REPORT, headers=KEY)

    assert first.status_code == 201
    assert (again.status_code, again.json()["code"]) == (409, "secret_not_kept")
    assert again.headers["Idempotency-Replayed"] == "true"
    await only_token(session)
    [kept] = await session.scalars(select(IdempotentRequest))
    assert "hive_" not in f"{kept.body}{kept.headers}"


async def test_a_refused_request_for_a_token_is_repeated_as_it_was(signed_in: httpx2.AsyncClient) -> None:
    answers = [await signed_in.post("/users/me/tokens", json={}, headers=KEY) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [422, 422]


async def test_its_last_use_is_told_to_some_minutes(client_with: ClientWith, session: AsyncSession, user: User) -> None:
    program = await client_with(await create_token(session, user))
    await program.get("/tasks")
    first = (await only_token(session)).last_used_at
    assert first is not None

    async def use_after(**time: float) -> datetime | None:
        await session.execute(update(ApiToken).values(last_used_at=first - timedelta(**time)))
        await session.commit()
        await program.get("/tasks")
        return (await only_token(session)).last_used_at

    assert await use_after(minutes=4) == first - timedelta(minutes=4)
    later = await use_after(minutes=6)
    assert later is not None
    assert later >= first


async def test_with_the_account_its_tokens_end(
    signed_in: httpx2.AsyncClient, client_with: ClientWith, session: AsyncSession, user: User
) -> None:
    program = await client_with(await create_token(session, user))

    await signed_in.delete("/users/me")

    assert problem(await program.get("/tasks"), 401)
    assert await session.scalar(select(func.count()).select_from(ApiToken)) == 0


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "x" * 101}, "/name"),
        ({"name": "a\u0000b"}, "/name"),
        ({"scopes": ["tasks:delete"]}, "/scopes/0"),
        ({"scopes": "tasks:read"}, "/scopes"),
        ({"scopes": None}, "/scopes"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "2999-01-01"}, "/expires_at"),
        ({"expires_at": 32503680000}, "/expires_at"),
        ({"token": "hive_mine"}, "/token"),
        ({"user_id": "me"}, "/user_id"),
    ],
)
async def test_what_a_token_can_not_be(
    signed_in: httpx2.AsyncClient, session: AsyncSession, change: dict[str, Any], pointer: str
) -> None:
    answer = await signed_in.post("/users/me/tokens", json=REPORT | change)

    assert [fault["pointer"] for fault in problem(answer, 422)["errors"]] == [pointer]
    assert await session.scalar(select(func.count()).select_from(ApiToken)) == 0


async def test_tokens_that_ran_out_long_ago_are_forgotten(serving: Serving, session: AsyncSession, user: User) -> None:
    now = datetime.now(UTC)
    for days in (-31, -29, 1):
        await create_token(session, user, expires_at=now + timedelta(days=days))
    await create_token(session, user)

    await serving(ApiTokenService).purge()

    assert await session.scalar(select(func.count()).select_from(ApiToken)) == 3


async def test_a_socket_of_a_program_listens_and_does_not_speak(
    app: FastAPI, session: AsyncSession, user: User
) -> None:
    token = await create_token(session, user, scopes={Scope.EVENTS_READ})

    async with FakeNetwork(query=f"token={token}").talk_to(app) as network:
        network.say('{"type": "ping", "data": 1}')
        network.say('{"type": "chat.message", "data": {"message": "Hello"}}')

        assert await network.text() == '{"type": "pong", "data": 1}'
        assert "not_for_tokens" in await network.text(1)
    assert await session.scalar(select(func.count()).select_from(Event)) == 0


@pytest.mark.parametrize("token", ["hive_", "hive_x", "hive_" + "\ud800" * 3, "hive_" + "x" * 9000, "HIVE_x"])
async def test_what_only_looks_like_a_token_is_none(app: FastAPI, client_with: ClientWith, token: str) -> None:
    if token.isascii():
        assert problem(await (await client_with(token)).get("/tasks"), 401)["code"] == "unauthorized"
    async with FakeNetwork().talk_to(app) as network:
        escaped = token.encode("ascii", "backslashreplace").decode()
        network.say(f'{{"type": "auth", "data": {{"token": "{escaped}"}}}}')
        assert await network.closing_code() == 4401


async def test_an_account_has_so_many_tokens(
    client_as: ClientAs, session: AsyncSession, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_token_service, "MOST_TOKENS", 2)
    client = await client_as(user)
    wanted = {"name": "Report", "scopes": ["tasks:read"]}

    answers = [await client.post("/users/me/tokens", json=wanted) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [201, 201, 409]
    assert problem(answers[2], 409)["code"] == "too_many_tokens"
    assert await session.scalar(select(func.count()).select_from(ApiToken)) == 2
