"""Requests of all kinds: so many a minute for each user, or for each address that nobody is signed in from."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.database import Database
from app.models import Event, Task, User
from tests.builders.tasks import create_task
from tests.builders.users import PASSWORD
from tests.conftest import attached_state, token_of
from tests.utils.callers import client_at
from tests.utils.test_utils import FakeNetwork, problem

MOST = 5
HERE, ELSEWHERE = "198.51.100.1", "198.51.100.2"
POLICY = f'"requests";q={MOST};w=60'


@pytest.fixture
async def strict_app(
    routes_app: FastAPI, settings: Settings, database: Database, redis_url: str
) -> AsyncIterator[FastAPI]:
    """The application, where each caller has five requests a minute."""
    strict = settings.model_copy(update={"requests_per_minute": MOST})
    async with attached_state(routes_app, strict, database, redis_url):
        yield routes_app


@asynccontextmanager
async def client_of(user: User, app: FastAPI, settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_at(HERE, app, {"Authorization": f"Bearer {token_of(user, settings)}"}) as client:
        yield client


def left(answer: httpx2.Response) -> int:
    """What the answer says is left; it must say of what, and for how long."""
    assert answer.headers["RateLimit-Policy"] == POLICY
    name, remaining, seconds = answer.headers["RateLimit"].split(";")
    assert name == '"requests"'
    assert 0 < int(seconds.removeprefix("t=")) <= 60
    return int(remaining.removeprefix("r="))


async def test_each_answer_says_what_is_left_and_then_comes_a_429(
    strict_app: FastAPI, settings: Settings, user: User
) -> None:
    async with client_of(user, strict_app, settings) as client:
        answers = [await client.get("/users/me") for _ in range(MOST)]
        refused = await client.get("/users/me")

    assert [(answer.status_code, left(answer)) for answer in answers] == [(200, n) for n in (4, 3, 2, 1, 0)]
    assert problem(refused, 429)["code"] == "too_many_requests"
    assert left(refused) == 0
    assert refused.headers["RateLimit"].endswith(f";t={refused.headers['Retry-After']}")
    assert 0 < int(refused.headers["Retry-After"]) <= 60


async def test_users_have_their_own_and_so_has_whoever_is_not_signed_in(
    strict_app: FastAPI, settings: Settings, user: User, other_user: User
) -> None:
    async with client_of(user, strict_app, settings) as one, client_of(other_user, strict_app, settings) as other:
        for _ in range(MOST):
            await one.get("/users/me")
        assert (await one.get("/users/me")).status_code == 429
        assert left(await other.get("/users/me")) == MOST - 1
        async with client_at(HERE, strict_app) as nobody:
            assert left(await nobody.get("/dashboard/summary")) == MOST - 1


async def test_a_user_is_one_with_any_token_and_from_any_address(
    strict_app: FastAPI, settings: Settings, user: User
) -> None:
    for number in range(MOST):
        headers = {"Authorization": f"bearer {token_of(user, settings)}"}
        async with client_at(f"203.0.113.{number}", strict_app, headers) as client:
            assert left(await client.get("/users/me")) == MOST - 1 - number

    async with client_of(user, strict_app, settings) as client:
        assert (await client.get("/users/me")).status_code == 429


async def test_whoever_has_no_valid_token_is_counted_by_address(strict_app: FastAPI) -> None:
    async with client_at(HERE, strict_app) as client, client_at(ELSEWHERE, strict_app) as elsewhere:
        for number in range(MOST):
            client.headers["Authorization"] = f"Bearer garbage{number}"
            assert (await client.get("/users/me")).status_code == 401
        assert problem(await client.get("/users/me"), 429)
        assert (await elsewhere.get("/users/me")).status_code == 401


async def test_the_address_that_a_trusted_proxy_names_is_the_one_that_counts(
    routes_app: FastAPI, settings: Settings, database: Database, redis_url: str
) -> None:
    behind = Settings.model_validate(
        settings.model_dump() | {"requests_per_minute": MOST, "trusted_proxies": f"{HERE}, 10.0.0.0/8"}
    )
    async with attached_state(routes_app, behind, database, redis_url), client_at(HERE, routes_app) as proxy:
        for number in range(MOST):
            proxy.headers["X-Forwarded-For"] = f"192.0.2.{number}, 203.0.113.1, 10.0.0.{number}"
            assert left(await proxy.get("/dashboard/summary")) == MOST - 1 - number
        assert (await proxy.get("/dashboard/summary")).status_code == 429
        proxy.headers["X-Forwarded-For"] = "203.0.113.1, 203.0.113.2"
        assert left(await proxy.get("/dashboard/summary")) == MOST - 1


async def test_errors_count_and_tell_what_is_left_as_well(
    strict_app: FastAPI, settings: Settings, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    async with client_of(user, strict_app, settings) as client:
        answers = [
            await client.get("/nothing"),
            await client.post("/tasks", content=b"{", headers={"Content-Type": "application/json"}),
            await client.delete("/tasks"),
            await client.get(f"/tasks/{task.id}", headers={"If-None-Match": '"1"'}),
            await client.post("/tasks", content=b"x" * (1024 * 1024 + 1)),
        ]
        refused = await client.get("/nothing")

    assert [answer.status_code for answer in answers] == [404, 422, 405, 304, 413]
    assert [left(answer) for answer in answers] == [4, 3, 2, 1, 0]
    assert refused.status_code == 429


async def test_a_batch_costs_its_items(
    strict_app: FastAPI, settings: Settings, user: User, session: AsyncSession
) -> None:
    batch = {"mode": "each", "items": [{"op": "create", "body": {"title": f"Orchid {n}"}} for n in range(3)]}
    async with client_of(user, strict_app, settings) as client:
        done = await client.post("/tasks/batch", json=batch)
        refused = await client.post("/tasks/batch", json=batch)

    assert done.status_code == 200
    assert problem(refused, 429)["code"] == "too_many_requests"
    assert 0 < int(refused.headers["Retry-After"]) <= 120
    assert await session.scalar(select(func.count()).select_from(Task)) == 3


async def test_a_batch_of_more_than_a_minute_is_let_through_when_nothing_else_was(
    strict_app: FastAPI, settings: Settings, user: User
) -> None:
    items = [{"op": "create", "body": {"title": f"Orchid {n}"}} for n in range(2 * MOST)]
    async with client_of(user, strict_app, settings) as client:
        answers = [await client.post("/tasks/batch", json={"mode": "each", "items": items}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 429]


async def test_a_sign_in_counts_as_a_request_of_its_address(strict_app: FastAPI, user: User) -> None:
    async with client_at(HERE, strict_app) as client:
        body = {"email": user.email, "password": PASSWORD}
        answers = [await client.post("/auth/login", json=body) for _ in range(MOST + 1)]

    assert [answer.status_code for answer in answers] == [200] * MOST + [429]
    assert problem(answers[-1], 429)["code"] == "too_many_requests"


@pytest.mark.committed
async def test_whether_the_process_lives_is_not_counted(strict_app: FastAPI) -> None:
    async with client_at(HERE, strict_app) as client:
        for path in ("/health", "/health/", "/api/v1/health"):
            for _ in range(MOST + 1):
                answer = await client.get(f"http://hive.test{path}")
                assert answer.status_code == 200
                assert "RateLimit" not in answer.headers

    assert [key async for key in strict_app.state.hive.redis.scan_iter("hive:limits:*")] == []


@pytest.mark.committed
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/health/ready",
        "/api/v1/health/ready",
        "/metrics",
        "/docs",
        "/docs/assets/swagger-ui.css",
        "/docs/assets/nothing",
        "/openapi.json",
        "/nothing",
        "/api/v1/nothing",
    ],
)
async def test_all_other_addresses_are_counted_and_refused(strict_app: FastAPI, path: str) -> None:
    async with client_at(HERE, strict_app) as client:
        answers = [await client.get(f"http://hive.test{path}") for _ in range(MOST)]
        refused = await client.get(f"http://hive.test{path}")

    assert [left(answer) for answer in answers] == [4, 3, 2, 1, 0]
    assert problem(refused, 429)["code"] == "too_many_requests"


async def test_without_a_limit_nothing_is_counted(
    routes_app: FastAPI, settings: Settings, database: Database, redis_url: str
) -> None:
    open_to_all = settings.model_copy(update={"requests_per_minute": 0})
    async with (
        attached_state(routes_app, open_to_all, database, redis_url),
        client_at(HERE, routes_app) as client,
    ):
        answer = await client.get("/dashboard/summary")

        assert answer.status_code == 200
        assert not {"RateLimit", "RateLimit-Policy"} & {*answer.headers}
        assert [key async for key in routes_app.state.hive.redis.scan_iter("hive:limits:*")] == []


async def test_of_many_at_once_as_many_are_answered_as_there_may_be(strict_app: FastAPI) -> None:
    async with client_at(HERE, strict_app) as client:
        answers = await asyncio.gather(*(client.get("/nothing") for _ in range(40)))

    assert sorted(answer.status_code for answer in answers) == [404] * MOST + [429] * (40 - MOST)


async def test_a_redis_that_was_started_anew_is_told_the_scripts_again(strict_app: FastAPI) -> None:
    async with client_at(HERE, strict_app) as client:
        assert left(await client.get("/nothing")) == MOST - 1
        await strict_app.state.hive.redis.script_flush()

        assert left(await client.get("/nothing")) == MOST - 2


@pytest.mark.committed
async def test_chat_on_a_socket_counts_and_one_message_too_many_is_answered_by_an_error(
    strict_app: FastAPI, settings: Settings, session: AsyncSession, user: User
) -> None:
    async with FakeNetwork(query=f"token={token_of(user, settings)}").talk_to(strict_app) as network:
        network.say('{"type": "ping", "data": 1}')
        assert await network.text() == '{"type": "pong", "data": 1}'
        # The handshake was the first request.
        for number in range(MOST):
            network.say(f'{{"type": "chat.message", "data": {{"message": "{number}"}}}}')
        refused = await network.text(1)
        network.say('{"type": "ping", "data": 2}')
        assert await network.text(2) == '{"type": "pong", "data": 2}'

    assert '"code": "too_many_requests"' in refused
    assert refused.startswith('{"type": "error"')
    said = await session.scalars(select(Event.data).order_by(Event.position))
    assert [data["message"] for data in said] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("path", ["/ws", "/ws/", "/api/v1/ws"])
async def test_a_handshake_too_many_closes_with_4429(
    strict_app: FastAPI, settings: Settings, session: AsyncSession, user: User, path: str
) -> None:
    async with client_of(user, strict_app, settings) as client:
        for _ in range(MOST):
            await client.get("/users/me")

    async with FakeNetwork(path, query=f"token={token_of(user, settings)}").talk_to(strict_app) as network:
        assert await network.closing_code() == 4429
        assert network.texts == []
    assert await session.scalar(select(func.count()).select_from(Event)) == 0


async def test_a_handshake_without_a_token_counts_for_its_address(strict_app: FastAPI) -> None:
    for _ in range(MOST):
        async with FakeNetwork().talk_to(strict_app) as network:
            network.say('{"type": "ping"}')
            assert await network.closing_code() == 4401

    async with FakeNetwork().talk_to(strict_app) as network:
        assert await network.closing_code() == 4429


def test_every_route_that_is_counted_declares_it(routes_app: FastAPI) -> None:
    document: dict[str, Any] = routes_app.openapi()
    declared = {
        path: {"429" in operation["responses"] for operation in methods.values()}
        for path, methods in document["paths"].items()
    }

    counted = {path for path in declared if not path.endswith("/health")}
    assert "/api/v1/tasks" in counted
    for path, has_it in declared.items():
        assert has_it == {path in counted}, path
