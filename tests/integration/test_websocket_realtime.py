"""Sockets on a real server: signing in, live events, presence, chat, and how they end."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import jwt
import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from app.config import Settings
from app.core.security import ALGORITHM, issue_token
from app.models import User
from tests.builders.users import create_user
from tests.conftest import RunningSystem, token_of
from tests.utils.test_utils import PATIENCE

pytestmark = pytest.mark.committed


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[ClientConnection]:
    async with connect(url, proxy=None, **options) as socket:
        yield socket


async def receive(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        message: dict[str, Any] = json.loads(await socket.recv())
        return message


async def receive_until(socket: ClientConnection, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    while True:
        if wanted(message := await receive(socket)):
            return message


async def close_code_of(socket: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            await receive(socket)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


async def send(socket: ClientConnection, message: Any) -> None:
    await socket.send(json.dumps(message))


Sockets = Callable[[User], Any]


@pytest.fixture
async def http(running_system: RunningSystem) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=running_system.address, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
async def socket_of(running_system: RunningSystem, settings: Settings) -> AsyncIterator[Sockets]:
    """Opens sockets whose token is in their address."""
    async with AsyncExitStack() as stack:

        async def open_one(user: User) -> ClientConnection:
            url = f"{running_system.sockets}?token={token_of(user, settings)}"
            return await stack.enter_async_context(opened(url))

        yield open_one


def as_user(user: User, settings: Settings) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_of(user, settings)}"}


async def test_a_change_reaches_the_sockets_of_others_as_its_event(
    http: httpx2.AsyncClient, socket_of: Sockets, settings: Settings, user: User, other_user: User
) -> None:
    reader = await socket_of(other_user)
    body = {"title": "Water the orchids", "status": "available"}

    task = (await http.post("/tasks", json=body, headers=as_user(user, settings))).json()
    await http.post(f"/tasks/{task['id']}/claim", headers=as_user(other_user, settings))

    created = await receive_until(reader, lambda message: message["type"] == "task.created")
    assert set(created) == {"id", "seq", "type", "timestamp", "actor", "task", "data"}
    assert created["actor"] == {"id": str(user.id), "type": "user"}
    assert created["task"] == {"id": task["id"], "version": 1}
    assert created["data"]["title"] == "Water the orchids"
    assigned = await receive(reader)
    assert (assigned["type"], assigned["data"]["assignee_id"]) == ("task.assigned", str(other_user.id))
    assert assigned["seq"] == created["seq"] + 1
    history = await http.get(f"/tasks/{task['id']}/history", headers=as_user(user, settings))
    assert history.json() == [assigned, created]


async def test_a_drafts_events_reach_its_owner_and_admins_alone(
    http: httpx2.AsyncClient, socket_of: Sockets, settings: Settings, user: User, other_user: User, admin: User
) -> None:
    owner, stranger, admins = await socket_of(user), await socket_of(other_user), await socket_of(admin)

    draft = await http.post("/tasks", json={"title": "Secret"}, headers=as_user(user, settings))
    await send(stranger, {"type": "chat.message", "data": {"message": "nothing for me?"}})

    for reader in (owner, admins):
        event = await receive_until(reader, lambda message: message["type"] == "task.created")
        assert event["task"]["id"] == draft.json()["id"]
    first = await receive_until(stranger, lambda message: message["seq"] is not None)
    assert first["type"] == "chat.message"


async def test_the_first_message_can_carry_the_token(
    running_system: RunningSystem, settings: Settings, user: User
) -> None:
    async with opened(running_system.sockets.replace("/ws", "/api/v1/ws")) as socket:
        await send(socket, {"type": "auth", "data": {"token": token_of(user, settings)}})
        await send(socket, {"type": "ping", "data": {"n": [1, "ü"]}})

        assert await receive(socket) == {"type": "pong", "data": {"n": [1, "ü"]}}


@pytest.mark.parametrize("query", ["?token=", "?token=nonsense"])
async def test_a_bad_token_in_the_address_closes_with_4401(running_system: RunningSystem, query: str) -> None:
    async with opened(running_system.sockets + query) as socket:
        assert await close_code_of(socket) == 4401


@pytest.mark.parametrize("message", ['{"type": "ping"}', "nonsense", '{"type": "auth", "data": {"token": "x"}}'])
async def test_a_bad_first_message_closes_with_4401(running_system: RunningSystem, message: str) -> None:
    async with opened(running_system.sockets) as socket:
        await socket.send(message)

        assert await close_code_of(socket) == 4401


async def test_chat_goes_to_all_who_are_connected(socket_of: Sockets, user: User, other_user: User) -> None:
    sockets = [await socket_of(user), await socket_of(other_user)]

    await send(sockets[0], {"type": "chat.message", "data": {"message": "Good morning"}})

    for socket in sockets:
        message = await receive_until(socket, lambda message: message["type"] == "chat.message")
        assert message["data"] == {"message": "Good morning"}
        assert message["actor"]["id"] == str(user.id)
        assert message["task"] is None
        assert message["seq"] > 0


@pytest.mark.parametrize(
    "message",
    [
        "nonsense",
        "[]",
        '{"type": "unheard of"}',
        '{"type": "chat.message", "data": {}}',
        '{"type": "chat.message", "data": {"message": ""}}',
        '{"type": "chat.message", "data": {"message": "x", "from": "someone else"}}',
        '{"type": "chat.message", "data": {"message": "\\u0000"}}',
        '{"type": "chat.message", "data": {"message": "\\ud800"}}',
        "[" * 5_000,
        b"\x00binary",
    ],
)
async def test_a_malformed_message_is_answered_and_the_socket_stays_open(
    socket_of: Sockets, user: User, message: str | bytes
) -> None:
    socket = await socket_of(user)

    await socket.send(message)
    await send(socket, {"type": "ping"})

    error = await receive_until(socket, lambda message: message["type"] in {"error", "pong"})
    assert (error["type"], error["data"]["code"]) == ("error", "invalid_message")
    pong = await receive_until(socket, lambda message: message["type"] in {"error", "pong"})
    assert pong == {"type": "pong", "data": None}


@pytest.mark.parametrize(
    "message",
    ["x" * (64 * 1024 + 1), "🐝" * (16 * 1024 + 1), ["x" * 40_000] * 2],
    ids=["one frame", "beyond ASCII", "several frames"],
)
async def test_an_oversized_message_closes_with_1009(socket_of: Sockets, user: User, message: str | list[str]) -> None:
    socket = await socket_of(user)

    await socket.send(message)

    assert await close_code_of(socket) == 1009


async def test_the_largest_message_is_answered(socket_of: Sockets, user: User) -> None:
    socket = await socket_of(user)
    empty = json.dumps({"type": "ping", "data": ""})
    data = "x" * (64 * 1024 - len(empty))

    await send(socket, {"type": "ping", "data": data})

    assert await receive(socket) == {"type": "pong", "data": data}


async def test_the_socket_closes_when_its_token_runs_out(
    running_system: RunningSystem, settings: Settings, user: User
) -> None:
    token = issue_token(user.id, user.id, key=settings.jwt_key, lifetime=timedelta(seconds=2))

    async with opened(f"{running_system.sockets}?token={token}") as socket:
        assert await close_code_of(socket) == 4401


@pytest.mark.parametrize("seconds", [-50, 50])
async def test_a_socket_with_a_token_of_another_clock_stays_open(
    http: httpx2.AsyncClient, running_system: RunningSystem, settings: Settings, user: User, seconds: int
) -> None:
    """The token was issued by a machine whose clock is off by so much, and is at its end or its beginning."""
    now = datetime.now(UTC) + timedelta(seconds=seconds)
    claims = jwt.decode(token_of(user, settings), options={"verify_signature": False})
    times = {"iat": now, "nbf": now, "exp": now + timedelta(seconds=1)}
    token = jwt.encode(claims | times, settings.jwt_key, algorithm=ALGORITHM)

    async with opened(f"{running_system.sockets}?token={token}") as socket:
        await send(socket, {"type": "ping", "data": 1})
        assert await receive_until(socket, lambda message: message["type"] == "pong")
    for _ in range(2):
        # The second one is answered from memory.
        answer = await http.get("/users/me", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200


async def test_the_sockets_of_a_deactivated_user_close(
    http: httpx2.AsyncClient, socket_of: Sockets, settings: Settings, user: User, other_user: User
) -> None:
    leaving, staying = await socket_of(user), await socket_of(other_user)

    await http.delete("/users/me", headers=as_user(user, settings))

    assert await close_code_of(leaving) == 4401
    await send(staying, {"type": "ping"})
    pong = await receive_until(staying, lambda message: message["type"] in {"pong", "account.deactivated"})
    assert pong["type"] == "pong"


async def test_others_learn_who_comes_online_and_goes(
    http: httpx2.AsyncClient, socket_of: Sockets, settings: Settings, session: AsyncSession, user: User
) -> None:
    watcher = await socket_of(user)
    visitor = await create_user(session, display_name="Visitor")

    def is_about_visitor(message: dict[str, Any]) -> bool:
        return bool(message["data"].get("user_id") == str(visitor.id))

    first, second = await socket_of(visitor), await socket_of(visitor)
    came = await receive_until(watcher, is_about_visitor)
    online = (await http.get("/users/online", headers=as_user(user, settings))).json()
    entry = (await http.get(f"/users/{visitor.id}", headers=as_user(user, settings))).json()
    await first.close()
    await second.close()
    went = await receive_until(watcher, is_about_visitor)

    assert (came["type"], came["seq"]) == ("user.online", None)
    assert str(visitor.id) in {entry["id"] for entry in online}
    assert entry["online"] is True
    assert went["type"] == "user.offline"


async def test_a_page_of_another_site_is_refused(running_system: RunningSystem, settings: Settings, user: User) -> None:
    url = f"{running_system.sockets}?token={token_of(user, settings)}"

    with pytest.raises(InvalidStatus) as refused:
        async with opened(url, origin="https://evil.example"):
            pass

    assert refused.value.response.status_code == 403
    own = running_system.sockets.replace("ws://", "http://").removesuffix("/ws")
    async with opened(url, origin=own) as socket:
        await send(socket, {"type": "ping"})
        assert (await receive(socket))["type"] == "pong"


async def test_a_plain_request_for_the_socket_is_a_problem(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/ws")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
