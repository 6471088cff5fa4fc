"""Plain requests and others: the same answers, rows and events, whichever way they were prepared."""

from dataclasses import replace
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from app.api.plans import Plan
from app.api.routing import HiveRoute
from app.models import Scope, Task, TaskStatus, User
from app.schemas.task import TaskResponse
from tests.builders.tasks import create_task
from tests.builders.tokens import create_token
from tests.builders.users import PASSWORD
from tests.conftest import ClientWith
from tests.utils.test_utils import events_of, problem

PLAIN = {"Content-Type": "application/json"}
# What says the same, and is left to FastAPI.
OTHER = {"Content-Type": "application/vnd.hive+json"}
BOTH = pytest.mark.parametrize("headers", [PLAIN, OTHER], ids=["plain", "other"])
# Those that declare more than a plan can have.
GENERAL = {"register", "token", "stream_events"}

# Method, path, body, in this order.
CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/tasks", {"title": "Roses", "due_at": "2027-01-01T12:00:00+02:00", "status": "available"}),
    ("PATCH", "/tasks/{task}", {"title": "Roses", "priority": "urgent"}),
    ("PATCH", "/tasks/{task}", {}),
    ("PUT", "/tasks/{task}/status", {"status": "in_progress"}),
    ("POST", "/tasks/{task}/assign", {"user_id": "{other}"}),
    ("POST", "/tasks/{task}/claim", {"lease_seconds": 60}),
    ("POST", "/tasks/{task}/claim", {}),
]
OF_ONE_CALL = {"id", "created_at", "updated_at", "owner_id"}


@pytest.fixture
def plain_answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the routes that took requests for plain ones. They do it as ever."""
    understood: list[str] = []
    bind = Plan.bind

    def noting(self: Plan, request: Request, content: bytes) -> None:
        bind(self, request, content)
        understood.append(self.route.name)

    monkeypatch.setattr(Plan, "bind", noting)
    return understood


def test_routes_prepare_plain_requests_themselves(app: FastAPI) -> None:
    routes = [route for route in app.routes if isinstance(route, HiveRoute)]

    assert len(routes) > 60
    assert {route.name for route in routes if route.plan is None} == GENERAL


def test_all_routes_below_the_prefix_have_one_transaction(app: FastAPI) -> None:
    """A route of another class, or one behind an included router, would have none, or a way of its own to it.

    How many others an endpoint opens is counted by the table of routes.
    """
    own = {route.path for route in app.routes if isinstance(route, HiveRoute)}

    below = {route.path for route in iter_route_contexts(app.routes) if (route.path or "").startswith("/api/v1")}

    # Sockets hold none, and health has to be told where there is no database.
    assert below - own == {"/api/v1/ws", "/api/v1/health", "/api/v1/health/ready"}


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_both_ways_do_and_answer_the_same(
    signed_in: httpx2.AsyncClient,
    session: AsyncSession,
    user: User,
    other_user: User,
    plain_answers: list[str],
    method: str,
    path: str,
    body: dict[str, Any],
) -> None:
    found = []
    for headers in (PLAIN, OTHER):
        task = await create_task(session, owner=user)
        content = {
            name: str(value).format(other=other_user.id) if name == "user_id" else value for name, value in body.items()
        }

        answer = await signed_in.request(method, path.format(task=task.id), json=content, headers=headers)

        assert answer.is_success, answer.text
        changed = await session.get_one(Task, answer.json()["id"], populate_existing=True)
        assert answer.content.decode() == TaskResponse.of(changed, viewer=user.id).model_dump_json()
        events = await events_of(session, changed)
        found.append(
            (
                answer.status_code,
                answer.headers["etag"],
                answer.headers["content-type"],
                answer.headers.get("location") == f"/api/v1/tasks/{changed.id}",
                {name: value for name, value in answer.json().items() if name not in OF_ONE_CALL | {"lease"}},
                [(event.type, event.task_version, event.actor_id, event.data | {"owner_id": None}) for event in events],
                all(event.request_id == answer.headers["x-request-id"] for event in events),
            )
        )

    assert found[0] == found[1]
    assert len(plain_answers) == 1


UNREADABLE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"x"',
    b"\xff",
    b"NaN",
    b"[" * 100_000,
    b'{"title": 1e400}',
    b'{"nothing": 1}',
]


@pytest.mark.parametrize("content", UNREADABLE)
@pytest.mark.parametrize(("method", "path"), sorted({(method, path) for method, path, _ in CHANGES}))
async def test_what_is_no_body_is_refused_in_the_same_words(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, method: str, path: str, content: bytes
) -> None:
    task = await create_task(session, owner=user)
    path = path.format(task=task.id)

    plain, other = [
        await signed_in.request(method, path, content=content, headers=headers) for headers in (PLAIN, OTHER)
    ]

    assert plain.status_code == other.status_code
    if plain.status_code == 422:
        assert problem(plain, 422)["errors"] == problem(other, 422)["errors"]
    else:
        # A claim has no body that it needs.
        assert (plain.status_code, path.endswith("/claim"), content) == (200, True, b"")


@BOTH
@pytest.mark.parametrize("token", [None, "Bearer nonsense", "Basic eDp5"])
async def test_who_has_not_signed_in_is_told_so(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, headers: dict[str, str], token: str | None
) -> None:
    task = await create_task(session, owner=user)
    signed = headers | ({"Authorization": token} if token else {})

    answer = await client.patch(f"/tasks/{task.id}", json={"title": "Roses"}, headers=signed)

    assert problem(answer, 401)["code"] == "unauthorized"
    assert answer.headers["www-authenticate"] == "Bearer"
    await session.refresh(task)
    assert task.title == "Water the orchids"


@pytest.mark.parametrize("token", [None, "Bearer nonsense"])
async def test_much_of_a_stranger_is_not_validated_before_the_token(
    client: httpx2.AsyncClient, plain_answers: list[str], monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("It was validated.")

    monkeypatch.setattr("app.api.plans._valid", fail)
    headers = {"Authorization": token} if token else {}
    large = {"mode": "each", "items": [{"op": "create", "body": {"title": "Roses"}}] * 100}

    body = await client.post("/tasks/batch", json=large, headers=headers)
    query = await client.get("/tasks", params={"category": ["roses"] * 500}, headers=headers)

    assert [problem(answer, 401)["code"] for answer in (body, query)] == ["unauthorized"] * 2
    assert plain_answers == []


async def test_much_of_a_user_is_plain(signed_in: httpx2.AsyncClient, plain_answers: list[str]) -> None:
    answer = await signed_in.post("/tasks", json={"title": "Roses", "description": "red " * 1_000})

    assert answer.status_code == 201
    assert plain_answers == ["create_task"]


async def test_login_is_plain(client: httpx2.AsyncClient, user: User, plain_answers: list[str]) -> None:
    """It's a stranger's, and nothing is asked before it."""
    answer = await client.post("/auth/login", json={"email": user.email, "password": PASSWORD})

    assert answer.status_code == 200
    assert plain_answers == ["login"]


@BOTH
async def test_a_program_needs_the_scope(
    client_with: ClientWith, session: AsyncSession, user: User, headers: dict[str, str]
) -> None:
    task = await create_task(session, owner=user)
    claimer = await client_with(await create_token(session, user, scopes=[Scope.TASKS_CLAIM, Scope.TASKS_READ]))

    refused = [
        await claimer.post("/tasks", json={"title": "Roses"}, headers=headers),
        await claimer.patch(f"/tasks/{task.id}", json={"title": "Roses"}, headers=headers),
        await claimer.put(f"/tasks/{task.id}/status", json={"status": "draft"}, headers=headers),
        await claimer.post(f"/tasks/{task.id}/assign", json={"user_id": str(user.id)}, headers=headers),
    ]

    assert [problem(answer, 403)["needed_scope"] for answer in refused] == ["tasks:write"] * 4
    assert (await claimer.post(f"/tasks/{task.id}/claim", json={}, headers=headers)).status_code == 200


@BOTH
async def test_what_one_may_not_see_is_not_there(
    signed_in_other: httpx2.AsyncClient, session: AsyncSession, user: User, headers: dict[str, str]
) -> None:
    draft = await create_task(session, owner=user, status=TaskStatus.DRAFT)
    for method, path, body in CHANGES[1:]:
        content = {"user_id": str(user.id)} if "user_id" in body else body

        answer = await signed_in_other.request(method, path.format(task=draft.id), json=content, headers=headers)

        assert problem(answer, 404)["code"] == "task_not_found"
    assert await events_of(session, draft) == []


@pytest.mark.parametrize("name", ["If-Match", "Idempotency-Key", "Hive-Lease-Token"])
async def test_a_condition_is_never_passed_over(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, name: str
) -> None:
    task = await create_task(session, owner=user)
    wanted = {"If-Match": '"7"', "Idempotency-Key": "once", "Hive-Lease-Token": "3"}[name]
    path = f"/tasks/{task.id}/assign"

    first = await signed_in.post(path, json={"user_id": str(user.id)}, headers={name: wanted})
    again = await signed_in.post(path, json={"user_id": str(user.id)}, headers={name: wanted})

    expected = {"If-Match": (412, 412), "Idempotency-Key": (200, 200), "Hive-Lease-Token": (409, 409)}[name]
    assert (first.status_code, again.status_code) == expected
    if name == "Idempotency-Key":
        assert again.headers["idempotency-replayed"] == "true"
        assert again.content == first.content


async def test_a_condition_that_is_required_is_asked_for(
    app: FastAPI, signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    strict = app.state.hive.settings.model_copy(update={"require_if_match": True})
    app.state.hive = replace(app.state.hive, settings=strict)
    for method, path, body in CHANGES[1:]:
        content = {"user_id": str(user.id)} if "user_id" in body else body

        answer = await signed_in.request(method, path.format(task=task.id), json=content)

        assert problem(answer, 428)["code"] == "precondition_required"
    assert (await signed_in.post("/tasks", json={"title": "Roses"})).status_code == 201


async def test_a_parameter_that_is_unknown_is_refused(signed_in: httpx2.AsyncClient) -> None:
    answer = await signed_in.post("/tasks?dry_run=true", json={"title": "Roses"})

    assert problem(answer, 422)["errors"][0]["pointer"] == "/dry_run"


async def test_a_body_that_is_too_large_is_refused(signed_in: httpx2.AsyncClient) -> None:
    answer = await signed_in.post("/tasks", content=b'{"title": "' + b"x" * 2**20 + b'"}', headers=PLAIN)

    assert problem(answer, 413)["code"] == "body_too_large"


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_who_hangs_up_in_the_middle_of_a_body_is_no_fault_of_ours(app: FastAPI, user: User, method: str) -> None:
    path = "/api/v1/tasks" if method == "POST" else f"/api/v1/tasks/{user.id}"
    statuses = []
    for content_type in (PLAIN["Content-Type"], OTHER["Content-Type"]):
        coming: list[Message] = [
            {"type": "http.disconnect"},
            {"type": "http.request", "body": b'{"title"', "more_body": True},
        ]

        async def receive(coming: list[Message] = coming) -> Message:
            return coming.pop()

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"content-type", content_type.encode())],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        await app(scope, receive, send)

    assert statuses == [422, 422]


@pytest.mark.parametrize(
    ("types", "status"),
    [
        ([b"application/json", b"text/plain"], 201),
        ([b"text/plain", b"application/json"], 422),
        ([b"text/plain", b"application/json; charset=utf-8"], 422),
    ],
)
async def test_of_two_kinds_of_content_the_first_counts(
    signed_in: httpx2.AsyncClient, types: list[bytes], status: int
) -> None:
    headers = [(b"authorization", signed_in.headers["authorization"].encode())]
    headers += [(b"content-type", each) for each in types]

    answer = await signed_in.post("/tasks", content=b'{"title": "Roses"}', headers=headers)

    assert answer.status_code == status


@pytest.mark.committed
async def test_a_task_whose_answer_can_not_be_built_is_there_and_told_of(
    app: FastAPI, signed_in: httpx2.AsyncClient, session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was one statement, which is a transaction by itself."""
    woken: list[bool] = []
    app.state.hive.database.wake_relay = lambda: woken.append(True)

    def fail(*_: object, **__: object) -> Response:
        raise LookupError

    monkeypatch.setattr("app.api.api_v1.tasks.change_answer", fail)

    answer = await signed_in.post("/tasks", json={"title": "Roses"})

    assert problem(answer, 500)["code"] == "internal_error"
    [task] = await session.scalars(select(Task))
    assert [event.type for event in await events_of(session, task)] == ["task.created"]
    assert woken == [True]


def test_a_query_with_a_secret_is_not_kept_in_memory(routes_app: FastAPI) -> None:
    plans = {route.path: route.plan for route in routes_app.routes if isinstance(route, HiveRoute)}

    kept = {
        path: hasattr(plan.query._read_kept, "cache_info")
        for path in ("/api/v1/auth/confirm", "/api/v1/events")
        if (plan := plans[path]) and plan.query
    }

    assert kept == {"/api/v1/auth/confirm": False, "/api/v1/events": True}
