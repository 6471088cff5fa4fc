"""Every route with every kind of caller, in one table. A route that isn't in it fails the suite."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from pydantic import SecretStr
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from starlette.routing import Mount, WebSocketRoute

from app.config import Environment, Settings
from app.database import Database
from app.db.transaction import Transaction
from app.main import create_app
from app.models import Event, Job, Task, TaskBlocker, TaskStatus, User
from tests.builders.agents import create_agent
from tests.builders.tasks import create_task
from tests.builders.tokens import create_token
from tests.builders.users import PASSWORD, create_user
from tests.conftest import ClientWith, token_of
from tests.utils.test_utils import FakeNetwork, problem

PEOPLE = ("stranger", "assignee", "owner", "admin", "deactivated")
# Programs: one with an API token of the owner that has all scopes, one with one that has none, and an agent of the
# owner, which is a stranger to their tasks.
PROGRAMS = ("program", "scopeless", "agent")
CALLERS = ("anonymous", *PEOPLE, *PROGRAMS)
OPEN = 101
API = "/api/v1"
TASK = f"{API}/tasks/{{task_id}}"
RouteKey = tuple[str, str]


@dataclass(frozen=True)
class Row:
    """What each caller gets, in the order of CALLERS, and what they send.

    In `json`, the words owner_id, stranger_id and owner_email stand for those of the people of the test.
    """

    answers: tuple[int, ...]
    json: dict[str, Any] | None = None
    form: dict[str, str] | None = None
    query: dict[str, str] | None = None
    status: TaskStatus = TaskStatus.IN_PROGRESS


def anyone(answer: int = 200, **sent: Any) -> Row:
    return Row((answer,) * len(CALLERS), **sent)


def signed_in(answer: int = 200, **sent: Any) -> Row:
    """Any account, and no token for programs."""
    return Row((401, answer, answer, answer, answer, 401, 403, 403, 403), **sent)


def in_scope(answer: int = 200, **sent: Any) -> Row:
    """Any account, and its tokens of the right scope."""
    return Row((401, answer, answer, answer, answer, 401, answer, 403, answer), **sent)


def owner(**sent: Any) -> Row:
    return Row((401, 403, 403, 200, 200, 401, 200, 403, 403), **sent)


def owner_or_assignee(**sent: Any) -> Row:
    return Row((401, 403, 200, 200, 200, 401, 200, 403, 403), **sent)


def admin(answer: int = 200, **sent: Any) -> Row:
    return Row((401, 403, 403, 403, answer, 401, 403, 403, 403), **sent)


NEW_USER = {"email": "new@example.org", "password": PASSWORD, "display_name": "New"}
CREDENTIALS = {"email": "owner_email", "password": PASSWORD}
STATUS = {"status": "completed"}
NEW_TASKS = {"mode": "each", "items": [{"op": "create", "body": {"title": "Orchids"}}]}
# Without worker and relay the system is not ready, but another test may have left them running.
READY_OR_NOT = 0
FRONT_PAGE = "/"

TABLE: dict[RouteKey, Row] = {
    ("GET", "/health"): anyone(),
    ("GET", "/health/ready"): anyone(READY_OR_NOT),
    ("GET", "/metrics"): admin(),
    ("GET", f"{API}/health"): anyone(),
    ("GET", f"{API}/health/ready"): anyone(READY_OR_NOT),
    ("GET", "/openapi.json"): anyone(),
    ("HEAD", "/openapi.json"): anyone(),
    # It tells whether the system is ready; tests/integration/api/test_front_page.py asks for it.
    ("GET", FRONT_PAGE): anyone(READY_OR_NOT),
    ("HEAD", FRONT_PAGE): anyone(READY_OR_NOT),
    ("GET", "/docs"): anyone(),
    ("HEAD", "/docs"): anyone(),
    ("MOUNT", "/docs/assets"): anyone(),
    ("POST", f"{API}/auth/register"): anyone(201, json=NEW_USER),
    ("POST", f"{API}/auth/login"): anyone(json=CREDENTIALS),
    ("POST", f"{API}/auth/token"): anyone(form={"username": "owner_email", "password": PASSWORD}),
    # What is no token is refused alike, whoever asks.
    ("POST", f"{API}/auth/refresh"): anyone(401, json={"refresh_token": "none"}),
    ("POST", f"{API}/auth/logout"): signed_in(),
    ("GET", f"{API}/auth/confirm"): anyone(404, query={"code": "no.such.code"}),
    ("POST", f"{API}/users/me/confirmation"): signed_in(202),
    ("GET", f"{API}/users/me/sessions"): signed_in(),
    ("DELETE", f"{API}/users/me/sessions"): signed_in(),
    # Each caller is somebody else than whose session it is.
    ("DELETE", f"{API}/users/me/sessions/{{session_id}}"): signed_in(404),
    ("POST", f"{API}/users/me/tokens"): signed_in(201, json={"name": "Report", "scopes": ["tasks:read"]}),
    ("GET", f"{API}/users/me/tokens"): signed_in(),
    ("GET", f"{API}/users/me/tokens/{{token_id}}"): signed_in(404),
    ("DELETE", f"{API}/users/me/tokens/{{token_id}}"): signed_in(404),
    ("POST", f"{API}/agents"): signed_in(201, json={"display_name": "Agent", "scopes": []}),
    ("GET", f"{API}/agents"): signed_in(),
    ("DELETE", f"{API}/agents/{{agent_id}}"): signed_in(404),
    ("POST", f"{API}/agents/{{agent_id}}/tokens"): signed_in(404, json={"name": "Report", "scopes": []}),
    ("GET", f"{API}/agents/{{agent_id}}/tokens"): signed_in(404),
    ("DELETE", f"{API}/agents/{{agent_id}}/tokens/{{token_id}}"): signed_in(404),
    ("GET", f"{API}/users/me"): signed_in(),
    ("PUT", f"{API}/users/me"): signed_in(json={"role": "Gardener"}),
    ("PATCH", f"{API}/users/me"): signed_in(json={"role": "Gardener"}),
    # The last admin stays.
    ("DELETE", f"{API}/users/me"): Row((401, 200, 200, 200, 409, 401, 403, 403, 403)),
    ("GET", f"{API}/users"): signed_in(),
    ("GET", f"{API}/users/online"): signed_in(),
    ("GET", f"{API}/users/{{user_id}}"): signed_in(),
    ("POST", f"{API}/tasks"): in_scope(201, json={"title": "Orchids"}),
    ("GET", f"{API}/tasks"): in_scope(),
    ("GET", f"{API}/tasks/workflow"): in_scope(),
    # Whether one may do what an item says is asked of each.
    ("POST", f"{API}/tasks/batch"): in_scope(json=NEW_TASKS),
    ("GET", TASK): in_scope(),
    ("PUT", TASK): owner(json={"title": "Roses"}),
    ("PATCH", TASK): owner(json={"title": "Roses"}),
    ("DELETE", TASK): owner(),
    ("POST", f"{TASK}/assign"): owner(json={"user_id": "stranger_id"}),
    ("DELETE", f"{TASK}/assign"): owner_or_assignee(),
    ("POST", f"{TASK}/claim"): in_scope(status=TaskStatus.AVAILABLE),
    ("POST", f"{API}/tasks/claim-next"): in_scope(status=TaskStatus.AVAILABLE),
    # Only the holder has a lease to renew.
    ("POST", f"{TASK}/lease"): Row((401, 409, 200, 409, 409, 401, 409, 403, 409), json={"lease_seconds": 60}),
    ("PUT", f"{TASK}/status"): owner_or_assignee(json=STATUS),
    ("GET", f"{TASK}/history"): in_scope(),
    ("GET", f"{TASK}/blockers"): in_scope(),
    ("PUT", f"{TASK}/blockers/{{blocker_id}}"): owner(),
    ("DELETE", f"{TASK}/blockers/{{blocker_id}}"): owner(),
    ("GET", f"{API}/events"): in_scope(),
    ("POST", f"{API}/events/ticket"): in_scope(),
    # From beyond the end of the log a stream has nothing to tell but that, and ends.
    ("GET", f"{API}/events/stream"): in_scope(query={"after": "9007199254740991"}),
    ("GET", f"{API}/events/types"): in_scope(),
    ("GET", f"{API}/notifications"): signed_in(),
    ("POST", f"{API}/notifications/read"): signed_in(),
    # Each caller is somebody else than whom the notification is for.
    ("POST", f"{API}/notifications/{{notification_id}}/read"): signed_in(404),
    ("GET", f"{API}/admin/jobs"): admin(),
    ("GET", f"{API}/admin/audit"): admin(),
    ("GET", f"{API}/admin/users"): admin(),
    ("GET", f"{API}/admin/users/{{user_id}}"): admin(),
    ("POST", f"{API}/admin/users/{{user_id}}/deactivate"): admin(),
    ("POST", f"{API}/admin/users/{{user_id}}/reactivate"): admin(),
    ("POST", f"{API}/admin/users/{{user_id}}/promote"): admin(),
    ("POST", f"{API}/admin/users/{{user_id}}/demote"): admin(),
    ("POST", f"{API}/admin/users/{{user_id}}/sign-out"): admin(),
    ("POST", f"{API}/admin/users/{{user_id}}/set-password"): admin(json={"password": "a password that is new"}),
    ("GET", f"{API}/dashboard/summary"): anyone(),
    ("GET", f"{API}/whoami"): Row((401, 200, 200, 200, 200, 401, 200, 200, 200)),
    ("POST", f"{API}/debug/run_test_celery_task"): admin(202),
    ("SOCKET", "/ws"): Row((4401, OPEN, OPEN, OPEN, OPEN, 4401, OPEN, 4403, OPEN)),
    ("SOCKET", f"{API}/ws"): Row((4401, OPEN, OPEN, OPEN, OPEN, 4401, OPEN, 4403, OPEN)),
}

# The one that finds who has signed in, and the route's own. An endpoint that opens another one has its changes
# committed before the answer is made.
MOST_UNITS = 2
# They look several times, and have no connection while they wait. Claiming keeps the answer in the same one itself.
WAITING = {("GET", f"{API}/events"), ("GET", f"{API}/events/stream"), ("POST", f"{API}/tasks/claim-next")}


def of_draft(answer: int, **sent: Any) -> Row:
    return Row((401, 404, 404, answer, answer, 401, answer, 403, 404), status=TaskStatus.DRAFT, **sent)


# A draft is its owner's and the admins' alone: whoever else asks, for whatever, learns that there is none.
DRAFTS: dict[RouteKey, Row] = {
    ("GET", TASK): of_draft(200),
    ("PUT", TASK): of_draft(200, json={"title": "Roses"}),
    ("PATCH", TASK): of_draft(200, json={"title": "Roses"}),
    ("DELETE", TASK): of_draft(200),
    ("POST", f"{TASK}/assign"): of_draft(200, json={"user_id": "stranger_id"}),
    ("DELETE", f"{TASK}/assign"): of_draft(409),
    ("POST", f"{TASK}/claim"): of_draft(409),
    ("PUT", f"{TASK}/status"): of_draft(200, json={"status": "available"}),
    ("POST", f"{TASK}/lease"): of_draft(409, json={"lease_seconds": 60}),
    ("GET", f"{TASK}/history"): of_draft(200),
    ("GET", f"{TASK}/blockers"): of_draft(200),
    ("PUT", f"{TASK}/blockers/{{blocker_id}}"): of_draft(200),
    ("DELETE", f"{TASK}/blockers/{{blocker_id}}"): of_draft(200),
}


def routes_in(table: dict[RouteKey, Row]) -> Iterator[RouteKey]:
    """The routes that have one answer to each caller, sockets left out."""
    for (method, path), row in table.items():
        if method != "SOCKET" and READY_OR_NOT not in row.answers:
            yield method, path


@pytest.fixture
async def people(session: AsyncSession) -> dict[str, User]:
    return {
        caller: await create_user(session, is_admin=caller == "admin", is_active=caller != "deactivated")
        for caller in PEOPLE
    }


@pytest.fixture
async def tokens(session: AsyncSession, settings: Settings, people: dict[str, User]) -> dict[str, str]:
    """What each caller but the anonymous one sends."""
    tokens = {name: token_of(user, settings) for name, user in people.items()}
    # That a token was used is noted now and then, in a unit of work of its own.
    now = datetime.now(UTC)
    tokens["program"] = await create_token(session, people["owner"], last_used_at=now)
    tokens["agent"] = await create_token(session, await create_agent(session, owner=people["owner"]), last_used_at=now)
    tokens["scopeless"] = await create_token(session, people["owner"], scopes=(), last_used_at=now)
    return tokens


@pytest.fixture
def units(monkeypatch: pytest.MonkeyPatch) -> list[Transaction]:
    """The units of work that were opened."""
    opened: list[Transaction] = []
    unit_of_work = Database.unit_of_work

    @asynccontextmanager
    async def noting(self: Database, **options: bool) -> AsyncIterator[Transaction]:
        async with unit_of_work(self, **options) as transaction:
            opened.append(transaction)
            yield transaction

    monkeypatch.setattr(Database, "unit_of_work", noting)
    return opened


def fill_in(value: Any, people: dict[str, User]) -> Any:
    known = {
        "owner_id": str(people["owner"].id),
        "owner_email": people["owner"].email,
        "stranger_id": str(people["stranger"].id),
    }
    return known.get(value, value) if isinstance(value, str) else value


async def call(
    client: httpx2.AsyncClient, method: str, path: str, row: Row, people: dict[str, User], task: Task, blocker: Task
) -> httpx2.Response:
    if method == "MOUNT":
        method, path = "GET", f"{path}/swagger-ui.css"
    # What is nobody's, or that of somebody else.
    others = dict.fromkeys(("notification_id", "session_id", "token_id", "agent_id"), task.id)
    ids = {"task_id": task.id, "blocker_id": blocker.id, "user_id": people["owner"].id, **others}
    filled = path.format(**ids)
    body, form = (
        {name: fill_in(value, people) for name, value in sent.items()} if sent else None
        for sent in (row.json, row.form)
    )
    return await client.request(method, f"http://hive.test{filled}", json=body, data=form, params=row.query)


@pytest.fixture(scope="module")
def declared(routes_app: FastAPI) -> dict[RouteKey, set[str]]:
    """Which answers the OpenAPI document says that each route has."""
    paths = routes_app.openapi()["paths"]
    return {
        (method.upper(), path): set(operation["responses"])
        for path, operations in paths.items()
        for method, operation in operations.items()
    }


def written_routes(app: FastAPI) -> set[RouteKey]:
    """Every route that the application has."""
    found = set()
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, WebSocketRoute):
            found.add(("SOCKET", context.path or ""))
        elif isinstance(context.original_route, Mount):
            found.add(("MOUNT", context.path or ""))
        else:
            found |= {(method, context.path_format or "") for method in context.methods or ()}
    return found


def test_every_route_is_in_the_table(app: FastAPI) -> None:
    assert written_routes(app) == set(TABLE)


def test_every_route_of_a_task_is_in_the_table_of_drafts() -> None:
    assert {route for route in TABLE if route[1].startswith(TASK)} == set(DRAFTS)


@pytest.mark.parametrize(
    ("method", "path", "row"),
    [
        pytest.param(*route, table[route], id=f"{name}-{'-'.join(route)}")
        for name, table in (("usual", TABLE), ("draft", DRAFTS))
        for route in routes_in(table)
    ],
)
async def test_answers_of_each_route_to_all_callers(
    connection: AsyncConnection,
    units: list[Transaction],
    declared: dict[RouteKey, set[str]],
    client: httpx2.AsyncClient,
    client_with: ClientWith,
    session: AsyncSession,
    people: dict[str, User],
    tokens: dict[str, str],
    method: str,
    path: str,
    row: Row,
) -> None:
    """Each caller finds everything as it was made: what the one before them did is rolled back."""
    task = await create_task(session, owner=people["owner"], assignee=people["assignee"], status=row.status)
    # It waited for this one, which is done.
    blocker = await create_task(session, owner=people["stranger"], status=TaskStatus.COMPLETED)
    session.add(TaskBlocker(task_id=task.id, blocker_id=blocker.id, created_by=people["owner"].id))
    await session.commit()
    for caller, expected in zip(CALLERS, row.answers, strict=True):
        speaker = client if caller == "anonymous" else await client_with(tokens[caller])
        untouched = await connection.begin_nested()
        units.clear()
        answer = await call(speaker, method, path, row, people, task, blocker)

        assert answer.status_code == expected, f"{caller}: {answer.text}"
        assert_well_formed(answer, caller)
        assert len(units) <= MOST_UNITS + ((method, path) in WAITING), caller
        assert str(expected) in declared.get((method, path), {str(expected)}), caller
        if expected in {401, 403, 404, 409}:
            await assert_nothing_was_done(session, task, row)
        # Otherwise its own savepoint would be the innermost one.
        await session.commit()
        await untouched.rollback()


def assert_well_formed(answer: httpx2.Response, caller: str) -> None:
    if answer.status_code >= 400:
        problem(answer, answer.status_code)
    if caller == "scopeless" and answer.status_code == 403:
        assert answer.json()["code"] in {"not_for_tokens", "insufficient_scope"}
    if answer.status_code == 401:
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def assert_nothing_was_done(session: AsyncSession, task: Task, row: Row) -> None:
    await session.refresh(task)
    assert (task.version, task.status) == (1, row.status)
    for table in (Event, Job):
        assert await session.scalar(select(func.count()).select_from(table)) == 0


@pytest.mark.committed
@pytest.mark.parametrize(
    "path", [path for (_, path), row in TABLE.items() if READY_OR_NOT in row.answers and path != FRONT_PAGE]
)
@pytest.mark.parametrize("caller", CALLERS)
async def test_anyone_may_ask_whether_the_system_is_ready(
    client: httpx2.AsyncClient, client_with: ClientWith, tokens: dict[str, str], path: str, caller: str
) -> None:
    """Its checks run at once, each on a connection of its own."""
    speaker = client if caller == "anonymous" else await client_with(tokens[caller])

    answer = await speaker.get(f"http://hive.test{path}")

    assert answer.status_code in {200, 503}
    checks = answer.json()["checks"]
    assert {name for name, check in checks.items() if check["ok"]} >= {"database", "redis", "migrations"}


@pytest.mark.parametrize("path", [path for method, path in TABLE if method == "SOCKET"])
@pytest.mark.parametrize("caller", CALLERS)
async def test_answer_of_each_socket_to_each_caller(
    app: FastAPI, tokens: dict[str, str], path: str, caller: str
) -> None:
    expected = TABLE["SOCKET", path].answers[CALLERS.index(caller)]
    query = "" if caller == "anonymous" else f"token={tokens[caller]}"

    async with FakeNetwork(path, query=query).talk_to(app) as network:
        # Who has no token in the address is asked for one by the first message; this isn't one.
        network.say('{"type": "ping", "data": 1}')
        if expected == OPEN:
            assert await network.text() == '{"type": "pong", "data": 1}'
            assert len(list(app.state.hive.sockets.connections)) == 1
        else:
            assert await network.closing_code() == expected
            assert network.texts == []

    assert len(list(app.state.hive.sockets.connections)) == 0


def test_production_lacks_the_routes_for_trying_things_out(settings: Settings) -> None:
    secret = SecretStr("a secret that is long enough, and kept")
    production = settings.model_copy(
        update={"environment": Environment.PRODUCTION, "secret_key": secret, "jwt_secret_key": secret}
    )

    missing = set(TABLE) - written_routes(create_app(production))

    assert missing == {("POST", f"{API}/debug/run_test_celery_task")}
