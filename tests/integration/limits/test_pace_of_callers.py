"""What no limit of requests bounds is answered no faster than its caller may ask."""

from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from starlette.types import Message

from app.config import Settings
from app.database import Database
from app.limits.address import LOCAL
from app.limits.pace import Pace, TooFast
from app.limits.requests import caller_at, caller_of_user
from app.models import User
from app.wire.http_protocol import IS_GONE
from tests.conftest import attached_state, token_of
from tests.utils.callers import client_at
from tests.utils.test_utils import FakeNetwork, problem

HERE = "198.51.100.1"
PREFLIGHT = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The callers that had to keep their pace."""
    callers: list[str] = []

    async def keep(_: Pace, caller: str, *, requests: int = 1) -> None:
        callers.extend([caller] * requests)

    monkeypatch.setattr(Pace, "keep", keep)
    return callers


@pytest.fixture
async def strict_app(
    routes_app: FastAPI, settings: Settings, database: Database, redis_url: str
) -> AsyncIterator[FastAPI]:
    """The application, where each caller has one request a minute."""
    strict = settings.model_copy(update={"requests_per_minute": 1})
    async with attached_state(routes_app, strict, database, redis_url):
        yield routes_app


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/health", {}),
        ("HEAD", "/health/", {}),
        ("GET", "/nothing/is/here", {}),
        ("GET", "/api/v1/users/me", {"Authorization": "Bearer junk"}),
        ("OPTIONS", "/api/v1/tasks", PREFLIGHT),
    ],
)
async def test_what_nobody_signed_in_asks_for_keeps_the_pace(
    app: FastAPI, paced: list[str], method: str, path: str, headers: dict[str, str]
) -> None:
    async with client_at(HERE, app, headers) as client:
        await client.request(method, f"http://hive.test{path}")

    assert paced == [caller_at(HERE)]


async def test_what_a_user_asks_for_keeps_the_users(
    strict_app: FastAPI, settings: Settings, user: User, paced: list[str]
) -> None:
    headers = {"Authorization": f"Bearer {token_of(user, settings)}"}
    async with client_at(HERE, strict_app, headers) as client:
        counted, refused = await client.get("/users/me"), await client.get("/users/me")
        not_counted = await client.get("http://hive.test/health")

    assert [answer.status_code for answer in (counted, refused, not_counted)] == [200, 429, 200]
    assert paced == [caller_of_user(user.id)] * 3


async def test_a_ticket_for_a_stream_counts_as_ten_requests(
    app: FastAPI, settings: Settings, user: User, paced: list[str]
) -> None:
    headers = {"Authorization": f"Bearer {token_of(user, settings)}"}
    async with client_at(HERE, app, headers) as client:
        assert (await client.post("/events/ticket")).status_code == 200

    assert paced == [caller_of_user(user.id)] * 10


async def test_a_stream_counts_as_ten_requests_and_does_not_begin_for_a_client_that_has_gone(
    app: FastAPI, settings: Settings, user: User, paced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    monkeypatch.setattr(app.state.hive.sign_ins, "look_up", begun.append)
    answers: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        answers.append(message)

    # It goes while it waits for the pace of the stream.
    is_gone = iter([False])
    await app(
        {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/api/v1/events/stream",
            "query_string": b"",
            "headers": [(b"authorization", f"Bearer {token_of(user, settings)}".encode())],
            "client": (HERE, 1),
            "server": ("hive.test", 80),
            IS_GONE: lambda: next(is_gone, True),
        },
        receive,
        send,
    )

    assert paced == [caller_of_user(user.id)] * 10
    assert begun == []
    assert [answer["status"] for answer in answers if answer["type"] == "http.response.start"] == [422]


async def test_a_user_does_not_wait_for_others_of_the_address(
    app: FastAPI, settings: Settings, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.state.hive.limits.pace_of_addresses, "keep", _refuse)
    async with client_at(HERE, app, {"Authorization": f"Bearer {token_of(user, settings)}"}) as client:
        assert (await client.get("/users/me")).status_code == 200
        assert (await client.get("http://hive.test/health")).status_code == 200
        client.headers.pop("Authorization")
        assert (await client.get("http://hive.test/health")).status_code == 429


async def _refuse(_caller: str) -> None:
    raise TooFast


async def test_handshakes_keep_it_too(app: FastAPI, settings: Settings, user: User, paced: list[str]) -> None:
    async with FakeNetwork(query=f"token={token_of(user, settings)}").talk_to(app):
        pass
    async with FakeNetwork("/nowhere", query=f"token={token_of(user, settings)}").talk_to(app) as network:
        await network.closing_code()
    async with FakeNetwork().talk_to(app) as network:
        network.say("junk")
        await network.closing_code()
    assert paced == [caller_of_user(user.id)] * 2 + [caller_at(LOCAL)]


async def test_one_who_is_too_fast_is_told_so_as_everybody_is(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.state.hive.limits.pace_of_addresses, "keep", _refuse)
    async with client_at(HERE, app) as client:
        refused = await client.get("http://hive.test/health")
    async with FakeNetwork().talk_to(app) as network:
        assert await network.closing_code() == 4429

    assert problem(refused, 429)["code"] == "too_many_requests"
    assert refused.headers["Retry-After"] == "1"
    assert refused.headers["X-Request-ID"] == refused.json()["request_id"]


@pytest.mark.parametrize(("method", "path", "is_done"), [("GET", "/health", False), ("POST", "/api/v1/nowhere", True)])
async def test_what_a_client_that_has_gone_would_read_is_not_made(
    app: FastAPI, method: str, path: str, *, is_done: bool
) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": [], "client": (HERE, 1)}
    await app({**scope, IS_GONE: lambda: True}, receive, send)
    assert bool(sent) is is_done

    await app({**scope, IS_GONE: lambda: False}, receive, send)
    assert sent
