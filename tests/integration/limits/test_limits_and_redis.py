"""What the limits ask of a Redis of their own: also while it's out of reach or stands still, and when it's back."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from app import embedded
from app.config import Settings
from app.core.redis import connect_redis
from app.database import Database
from app.limits import shared
from app.models import User
from tests.builders.users import PASSWORD
from tests.conftest import attached_state
from tests.utils.callers import client_at
from tests.utils.test_utils import problem, wait_until_async

HERE = "198.51.100.1"
WRONG = "not the right password"


@dataclass
class FailingRedis:
    """A Valkey of this test's own, reached by a link that can be taken away."""

    url: str
    link: Path
    real: Path
    pid: int

    def leave(self, how: str) -> None:
        if how == "stands still":
            os.kill(self.pid, signal.SIGSTOP)
        else:
            self.link.unlink()

    def come_back(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        with suppress(FileExistsError):
            self.link.symlink_to(self.real)


@pytest.fixture(scope="module")
def own_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("redis")
    servers = embedded.join(folder, postgres=False, durable=False)
    yield embedded.redis_url(folder)
    servers.leave()


@pytest.fixture
async def failing(own_valkey: str, tmp_path: Path) -> AsyncIterator[FailingRedis]:
    real, link = Path(own_valkey.removeprefix("unix://").partition("?")[0]), tmp_path / "redis.socket"
    link.symlink_to(real)
    redis = connect_redis(own_valkey)
    pid = int((await redis.info("server"))["process_id"])
    await redis.flushall()
    await redis.aclose()
    failing = FailingRedis(f"unix://{link}", link, real, pid)
    yield failing
    failing.come_back()


@pytest.fixture
async def app_on(
    failing: FailingRedis, routes_app: FastAPI, settings: Settings, database: Database
) -> AsyncIterator[FastAPI]:
    async with attached_state(routes_app, settings, database, failing.url):
        yield routes_app


@pytest.fixture
async def caller(app_on: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_at(HERE, app_on) as client:
        yield client


async def leave(failing: FailingRedis, how: str, app: FastAPI) -> None:
    failing.leave(how)
    # An open connection doesn't need the link.
    if how == "out of reach":
        await app.state.hive.redis.connection_pool.disconnect()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    events = [record.msg["event"] for record in caplog.records if isinstance(record.msg, dict)]
    return [event for event in events if event.startswith("Redis is")]


async def login(client: httpx2.AsyncClient, email: str, password: str) -> httpx2.Response:
    return await client.post("/auth/login", json={"email": email, "password": password})


@dataclass
class Questions:
    """What goes to Redis, by a clock that the test sets. Those to come are held back while `may_pass` is cleared."""

    now: float
    count: int = 0
    may_pass: asyncio.Event = field(default_factory=asyncio.Event)

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> Questions:
    questions = Questions(time.monotonic())
    questions.may_pass.set()
    within = shared._within

    async def count_and_ask(seconds: float, question: Awaitable[object]) -> object:
        questions.count += 1
        await questions.may_pass.wait()
        return await within(seconds, question)

    monkeypatch.setattr(shared, "_within", count_and_ask)
    monkeypatch.setattr(shared, "time", questions)
    return questions


HOW = pytest.mark.parametrize("how", ["stands still", "out of reach"])


@HOW
async def test_requests_are_answered_unlimited_and_soon_and_counted_when_it_is_back(
    failing: FailingRedis,
    app_on: FastAPI,
    caller: httpx2.AsyncClient,
    questions: Questions,
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    caplog.set_level("INFO")
    assert "RateLimit" in (await caller.get("/nothing")).headers
    await leave(failing, how, app_on)

    questions.count = 0
    answers = [await caller.get("/nothing") for _ in range(40)]

    assert {answer.status_code for answer in answers} == {404}
    assert not any("RateLimit" in answer.headers for answer in answers)
    # One asks for it now and then; the others don't wait at all.
    assert questions.count == 1
    assert len(said(caplog)) == 1
    assert said(caplog)[0].startswith("Redis is away")

    failing.come_back()

    async def is_counted() -> bool:
        questions.now += shared.REST_SECONDS
        return "RateLimit" in (await caller.get("/nothing")).headers

    await wait_until_async(is_counted, what="the limits to be back")
    assert said(caplog)[1:] == ["Redis is back, and limits are shared again"]


async def test_nobody_waits_behind_the_one_who_asks_whether_it_is_back(
    failing: FailingRedis, app_on: FastAPI, caller: httpx2.AsyncClient, questions: Questions
) -> None:
    failing.leave("stands still")
    await caller.get("/nothing")
    # The rest is over, so the next one asks.
    questions.now += 2 * shared.REST_SECONDS
    questions.may_pass.clear()

    asking = asyncio.create_task(caller.get("/nothing"))
    await wait_until_async(partial(is_resting, app_on), what="the one who asks")
    others = await asyncio.gather(*(caller.get("/nothing") for _ in range(20)))

    assert not asking.done()
    questions.may_pass.set()
    assert {answer.status_code for answer in [*others, await asking]} == {404}


async def is_resting(app: FastAPI) -> bool:
    return bool(app.state.hive.limits.requests._reach.is_resting)


@HOW
async def test_each_process_limits_failed_sign_ins_by_itself(
    failing: FailingRedis, app_on: FastAPI, caller: httpx2.AsyncClient, user: User, verifications: list[str], how: str
) -> None:
    await leave(failing, how, app_on)

    answers = [await login(caller, user.email, WRONG) for _ in range(6)]
    refused = await login(caller, user.email, PASSWORD)

    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert problem(refused, 429)["code"] == "too_many_attempts"
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert len(verifications) == 5


async def test_failures_before_the_outage_count_on_through_it_and_after(
    failing: FailingRedis, app_on: FastAPI, caller: httpx2.AsyncClient, user: User
) -> None:
    for _ in range(3):
        assert (await login(caller, user.email, WRONG)).status_code == 401
    await leave(failing, "out of reach", app_on)
    for _ in range(2):
        assert (await login(caller, user.email, WRONG)).status_code == 401
    assert (await login(caller, user.email, PASSWORD)).status_code == 429
    failing.come_back()

    async def is_counted() -> bool:
        return "RateLimit" in (await caller.get("/nothing")).headers

    await wait_until_async(is_counted, what="the limits to be back")
    assert (await login(caller, user.email, PASSWORD)).status_code == 429


async def test_a_right_password_signs_in_without_redis(
    failing: FailingRedis, app_on: FastAPI, caller: httpx2.AsyncClient, user: User
) -> None:
    await leave(failing, "stands still", app_on)

    answers = [await login(caller, user.email, PASSWORD) for _ in range(8)]

    assert {answer.status_code for answer in answers} == {200}


async def test_a_redis_that_refuses_is_away_as_well(
    failing: FailingRedis, app_on: FastAPI, caller: httpx2.AsyncClient
) -> None:
    redis = app_on.state.hive.redis
    await redis.config_set("maxmemory", "1")
    try:
        answer = await caller.get("/nothing")
    finally:
        await redis.config_set("maxmemory", "0")

    assert answer.status_code == 404
    assert "RateLimit" not in answer.headers


async def test_a_request_is_one_round_trip(app_on: FastAPI, caller: httpx2.AsyncClient) -> None:
    """Counted by the server, which nobody else uses: how often it had something to read."""
    redis = app_on.state.hive.redis
    await caller.get("/nothing")

    async def reads() -> int:
        return int((await redis.info("stats"))["total_reads_processed"])

    asking_alone = -(await reads() - await reads())
    before = await reads()
    assert "RateLimit" in (await caller.get("/nothing")).headers

    assert await reads() - before == asking_alone + 1
