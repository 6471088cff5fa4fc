"""What one user asks for many times at once is done two at a time, and others need not wait for it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI

from app import main
from app.config import Settings
from app.core.permissions import Actor
from app.events.backlog import BacklogPage, LogPosition, PageSize
from app.events.filters import EVERYTHING
from app.limits.limits import AT_ONCE
from app.limits.requests import caller_of_user
from app.limits.turns import MOST_WAITING, Turns
from app.models import User
from tests.conftest import token_of
from tests.utils.test_utils import PATIENCE, FakeNetwork, problem, wait_until_async


@asynccontextmanager
async def queue_full_of(turns: Turns, name: str) -> AsyncIterator[None]:
    """As many of the user's are at work, and wait, as may be."""
    async with AsyncExitStack() as at_work:
        for _ in range(AT_ONCE):
            await at_work.enter_async_context(turns.of(name))
        waiting = [asyncio.create_task(_wait(turns, name)) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        yield
    await asyncio.gather(*waiting)


async def _wait(turns: Turns, name: str) -> None:
    async with turns.of(name):
        pass


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/events?after={head}", "replays"),
        ("GET", "/events?after={head}&wait=1", "replays"),
        ("POST", "/events/ticket", "tickets"),
        ("POST", "/events/ticket", "look_ups"),
        ("POST", "/tasks/claim-next", "claims"),
    ],
)
async def test_a_user_whose_queue_is_full_is_told_so_and_nobody_else(
    app: FastAPI,
    signed_in: httpx2.AsyncClient,
    signed_in_other: httpx2.AsyncClient,
    user: User,
    log_head: int,
    method: str,
    path: str,
    name: str,
) -> None:
    path = path.format(head=log_head)
    whose = caller_of_user(user.id) if name == "look_ups" else str(user.id)
    async with queue_full_of(getattr(app.state.hive.limits, name), whose):
        refused = await signed_in.request(method, path)
        others = await signed_in_other.request(method, path)
    again = await signed_in.request(method, path)

    assert problem(refused, 503)["code"] == "too_busy"
    assert refused.headers["Retry-After"] == "1"
    assert (others.is_success, again.is_success) == (True, True)


async def test_a_socket_whose_turn_does_not_come_is_told_to_come_back(
    app: FastAPI, settings: Settings, user: User, other_user: User, log_head: int
) -> None:
    async with queue_full_of(app.state.hive.limits.replays, str(user.id)):
        async with FakeNetwork(query=f"token={token_of(user, settings)}&since={log_head}").talk_to(app) as network:
            assert await network.closing_code() == 1013
        async with FakeNetwork(query=f"token={token_of(other_user, settings)}&since={log_head}").talk_to(
            app
        ) as network:
            network.say('{"type": "ping", "data": 1}')
            assert await network.text() == '{"type": "pong", "data": 1}'


async def test_pages_of_one_user_are_read_two_at_a_time(monkeypatch: pytest.MonkeyPatch, app: FastAPI) -> None:
    ada, grace = Actor(uuid4()), Actor(uuid4())
    at_work: Counter[Actor] = Counter()
    may_go_on = asyncio.Event()

    async def read_backlog(_: object, actor: Actor, **__: object) -> BacklogPage:
        at_work[actor] += 1
        await may_go_on.wait()
        return BacklogPage([], 0, 0, uuid4())

    monkeypatch.setattr(main, "read_backlog", read_backlog)
    read = app.state.hive.sockets.read_backlog
    reading = [
        asyncio.create_task(read(actor, LogPosition(0), EVERYTHING, PageSize(1))) for actor in (*[ada] * 9, grace)
    ]

    async def is_grace_at_work() -> bool:
        return at_work[grace] == 1

    await wait_until_async(is_grace_at_work, what="the other user's turn")
    assert at_work[ada] == AT_ONCE
    may_go_on.set()
    await asyncio.gather(*reading)
    assert at_work[ada] == 9


async def test_a_page_is_read_to_its_end_when_its_reader_goes(monkeypatch: pytest.MonkeyPatch, app: FastAPI) -> None:
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def read_backlog(*_: object, **__: object) -> BacklogPage:
        begun.set()
        await may_end.wait()
        ended.set()
        return BacklogPage([], 0, 0, uuid4())

    monkeypatch.setattr(main, "read_backlog", read_backlog)
    read = app.state.hive.sockets.read_backlog
    reading = asyncio.create_task(read(Actor(uuid4()), LogPosition(0), EVERYTHING, PageSize(1)))
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
        reading.cancel()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await reading

    assert ended.is_set()
