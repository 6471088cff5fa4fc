"""What a request under a key holds while it waits, what is kept of it, and what is not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from starlette.types import Message

from app.config import Settings
from app.core import security
from app.database import Database
from app.limits.requests import RequestLimit, TooManyRequests
from app.models import IdempotentRequest, Task, User
from app.services import user_admin
from tests.builders.tasks import create_task
from tests.conftest import attached_state, token_of
from tests.utils.test_utils import problem, wait_for_lock_waiter, wait_until_async

KEY = {"Idempotency-Key": "once"}
ROSES = {"title": "Roses"}


@dataclass(frozen=True)
class Site:
    """The application on as many connections as a test says."""

    app: FastAPI
    settings: Settings
    database_url: str
    redis_url: str

    @asynccontextmanager
    async def on(self, connections: int) -> AsyncIterator[Database]:
        database = Database.connect(self.database_url, application="tests", pool_size=connections)
        async with attached_state(self.app, self.settings, database, self.redis_url):
            yield database
        await database.close()

    def client_of(self, user: User) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            transport=httpx2.ASGITransport(self.app),
            base_url="http://hive.test/api/v1",
            headers={"Authorization": f"Bearer {token_of(user, self.settings)}"},
        )


@pytest.fixture
def site(routes_app: FastAPI, settings: Settings, database_url: str, redis_url: str) -> Site:
    return Site(routes_app, settings, database_url, redis_url)


@pytest.mark.committed
@pytest.mark.parametrize("path", ["/tasks", "/tasks/batch", "/agents", "/admin/users/{other}/set-password"])
async def test_one_connection_is_enough_for_a_request_with_a_key(
    site: Site,
    admin: User,
    other_user: User,
    path: str,
) -> None:
    bodies = {
        "/tasks": ROSES,
        "/tasks/batch": {"mode": "atomic", "items": [{"op": "create", "body": ROSES}]},
        "/agents": {"display_name": "Bot", "scopes": ["tasks:read"]},
        "/admin/users/{other}/set-password": {"password": "correct horse battery staple"},
    }
    async with (
        site.on(connections=1),
        site.client_of(admin) as client,
    ):
        first = await client.post(path.format(other=other_user.id), json=bodies[path], headers=KEY)
        again = await client.post(path.format(other=other_user.id), json=bodies[path], headers=KEY)

    assert first.is_success, first.text
    assert again.headers["Idempotency-Replayed"] == "true" or again.json()["code"] == "secret_not_kept"


@pytest.mark.committed
@pytest.mark.usefixtures("long_locks")
async def test_batches_that_wait_for_their_turn_leave_connections_to_others(
    site: Site,
    session: AsyncSession,
    sessions: async_sessionmaker[AsyncSession],
    user: User,
    other_user: User,
) -> None:
    task = await create_task(session, owner=user)
    batch = {"mode": "atomic", "items": [{"op": "update", "id": str(task.id), "body": ROSES}]}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(site.on(connections=8))
        client, other = [await stack.enter_async_context(site.client_of(each)) for each in (user, other_user)]
        blocker = await stack.enter_async_context(sessions())
        await blocker.execute(select(Task).where(Task.id == task.id).with_for_update())
        asked = [
            asyncio.create_task(client.post("/tasks/batch", json=batch, headers={"Idempotency-Key": f"key-{n}"}))
            for n in range(8)
        ]
        await wait_for_lock_waiter(session)

        assert (await other.post("/tasks", json=ROSES)).status_code == 201
        await blocker.rollback()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}


@pytest.mark.committed
async def test_a_password_is_hashed_before_the_transaction_begins(
    site: Site,
    admin: User,
    other_user: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hash_password = security.hash_password
    async with (
        site.on(connections=1) as database,
        site.client_of(admin) as client,
    ):

        async def hash_with_the_only_connection_free(password: str) -> str:
            async with database.unit_of_work() as transaction:
                await transaction.scalar(select(func.now()))
            return await hash_password(password)

        monkeypatch.setattr(user_admin, "hash_password", hash_with_the_only_connection_free)
        path = f"/admin/users/{other_user.id}/set-password"
        answer = await client.post(path, json={"password": "correct horse battery staple"}, headers=KEY)

    assert answer.status_code == 200, answer.text


async def test_what_came_too_often_is_not_kept(
    signed_in: httpx2.AsyncClient, session: AsyncSession, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = {"mode": "atomic", "items": [{"op": "create", "body": ROSES}] * 2}
    allowance = await app.state.hive.limits.requests.count("user:nobody")

    async def refuse(*_: object) -> None:
        raise TooManyRequests(allowance)

    with monkeypatch.context() as patched:
        patched.setattr(RequestLimit, "count_further", refuse)
        refused = await signed_in.post("/tasks/batch", json=batch, headers=KEY)
    done = await signed_in.post("/tasks/batch", json=batch, headers=KEY)

    assert problem(refused, 429)["code"] == "too_many_requests"
    assert (done.status_code, "Idempotency-Replayed" in done.headers) == (200, False)
    assert await session.scalar(select(func.count()).select_from(IdempotentRequest)) == 1


async def test_a_replay_comes_before_what_would_refuse_it_now(
    signed_in: httpx2.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await signed_in.post("/tasks", json=ROSES, headers=KEY)
    monkeypatch.setattr(app.state.hive.open_tasks, "_most", 1)
    app.state.hive.open_tasks._rooms.clear()

    assert (await signed_in.post("/tasks", json=ROSES)).status_code == 409
    again = await signed_in.post("/tasks", json=ROSES, headers=KEY)
    assert (again.status_code, again.json()) == (201, first.json())


@pytest.mark.parametrize("path", ["/notifications/read", "/tasks"])
async def test_a_hang_up_in_the_middle_of_a_body_is_no_fault_of_ours(
    app: FastAPI, user: User, settings: Settings, path: str
) -> None:
    coming: list[Message] = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b'{"title"', "more_body": True},
    ]
    statuses = []

    async def receive() -> Message:
        return coming.pop()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = {
        "content-type": "application/json",
        "idempotency-key": "once",
        "authorization": f"Bearer {token_of(user, settings)}",
    }
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": f"/api/v1{path}",
        "raw_path": f"/api/v1{path}".encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await app(scope, receive, send)

    assert statuses == [422]


@pytest.mark.committed
async def test_streams_that_wait_for_the_log_leave_their_tickets_and_connections(
    site: Site,
    user: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after a restart, before this process follows the log."""
    async with (
        site.on(connections=1),
        site.client_of(user) as client,
    ):
        connections = site.app.state.hive.sockets.connections
        ticket = (await client.post("/events/ticket")).json()["ticket"]
        connections._is_following.clear()
        stream = asyncio.create_task(client.get("/events/stream", params={"ticket": ticket}))

        async def waits() -> bool:
            return bool(connections._is_following._waiters)

        await wait_until_async(waits, what="the stream waiting")
        assert (await client.patch("/users/me", json={"role": "Gardener"})).status_code == 200
        stream.cancel()
        await asyncio.gather(stream, return_exceptions=True)
