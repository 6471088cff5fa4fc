"""So many bytes of bodies and messages for each person within a day, over all processes, tokens and agents."""

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.core.redis import connect_redis
from app.database import Database
from app.limits.bytes_sent import DAY, UNIT, ByteLimit, TooManyBytes
from app.limits.shared import Reach, SharedStorage
from app.models import Event, IdempotentRequest, Task, User
from tests.builders.agents import create_agent
from tests.builders.tasks import create_task
from tests.builders.tokens import create_token
from tests.conftest import ClientAs, ClientWith, attached_state, token_of
from tests.utils.test_utils import FakeNetwork, problem

MOST = 1024 * 1024
ROSES = {"title": "Roses"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def app(routes_app: FastAPI, settings: Settings, database: Database, redis_url: str) -> AsyncIterator[FastAPI]:
    """The application, where each person has one MiB a day."""
    strict = settings.model_copy(update={"bytes_per_user_and_day": MOST})
    async with attached_state(routes_app, strict, database, redis_url):
        yield routes_app


async def send(client: httpx2.AsyncClient, size: int) -> httpx2.Response:
    """Make a task by a body of that size, most of it spaces."""
    return await client.post("/tasks", content=json.dumps(ROSES).encode().ljust(size), headers=JSON)


async def test_who_has_sent_enough_for_a_day_is_refused_before_anything_is_done(
    client_as: ClientAs, session: AsyncSession, user: User, other_user: User
) -> None:
    client = await client_as(user)
    await client.get("/users/me")

    for _ in range(3):
        assert (await send(client, 300 * 1024)).status_code == 201
    assert (await client.post("/tasks", json=ROSES)).status_code == 201
    refused = await send(client, 300 * 1024)
    assert (await send(client, 60 * 1024)).status_code == 201
    late = [await send(client, 60 * 1024) for _ in range(2)][-1]

    assert problem(refused, 429)["code"] == "too_many_bytes"
    assert "BYTES_PER_USER_AND_DAY" in refused.json()["detail"]
    assert 0 < int(refused.headers["Retry-After"]) <= DAY
    assert problem(late, 429)["code"] == "too_many_bytes"
    assert problem(await client.post("/tasks/batch", json={"mode": "each", "items": [ROSES] * 3000}), 429)
    assert await session.scalar(select(func.count()).select_from(Task)) == 6
    assert (await client.get("/tasks")).status_code == 200
    assert (await (await client_as(other_user)).post("/tasks", json=ROSES)).status_code == 201


async def test_all_tokens_of_a_person_and_of_their_agents_count_together(
    client_as: ClientAs, client_with: ClientWith, session: AsyncSession, user: User
) -> None:
    agent = await create_agent(session, owner=user)
    clients = [await client_as(user)]
    clients += [await client_with(await create_token(session, each)) for each in (user, agent)]
    for client in clients:
        await client.get("/tasks")

    codes = [(await send(clients[number % 3], 256 * 1024)).status_code for number in range(6)]

    assert codes == [201, 201, 201, 201, 429, 429]


async def test_the_first_body_of_a_token_that_is_not_known_yet_is_counted_afterwards(
    client_with: ClientWith, session: AsyncSession, user: User
) -> None:
    client = await client_with(await create_token(session, user))

    codes = [(await send(client, MOST)).status_code for _ in range(2)]

    assert codes == [201, 429]


async def test_a_body_of_unknown_length_is_counted_when_it_was_read(client_as: ClientAs, user: User) -> None:
    client = await client_as(user)
    await client.get("/users/me")

    async def body() -> AsyncIterator[bytes]:
        yield json.dumps(ROSES).encode()
        for _ in range(4):
            yield b" " * (200 * 1024)

    codes = [(await client.post("/tasks", content=body(), headers=JSON)).status_code for _ in range(3)]

    assert codes == [201, 201, 429]


async def test_an_answer_that_is_kept_counts_too(client_as: ClientAs, session: AsyncSession, user: User) -> None:
    """A request without a body could else have an answer of 80 KB kept a thousand times a minute."""
    task = await create_task(session, owner=user, description="ä" * 20_000)
    client = await client_as(user)
    await client.get("/users/me")

    async def claim(**headers: str) -> int:
        return (await client.post(f"/tasks/{task.id}/claim", headers=headers)).status_code

    codes = [await claim(**{"Idempotency-Key": f"claim-number-{number}"}) for number in range(40)]

    assert sorted(codes) == codes
    assert set(codes) == {200, 429}
    kept = await session.scalar(select(func.sum(func.octet_length(IdempotentRequest.body))))
    assert abs(MOST - kept) <= 2 * UNIT
    assert await claim() == 200


async def test_who_is_not_signed_in_is_not_counted_for_anybody(client: httpx2.AsyncClient) -> None:
    codes = [(await send(client, 600 * 1024)).status_code for _ in range(3)]

    assert set(codes) == {401}


async def test_chat_messages_count_and_one_too_many_is_answered_by_an_error(
    app: FastAPI, settings: Settings, session: AsyncSession, user: User
) -> None:
    await app.state.hive.limits.bytes.take(user.id, MOST - 10)
    async with FakeNetwork(query=f"token={token_of(user, settings)}").talk_to(app) as network:
        for message in ("12345678", "too long"):
            network.say(f'{{"type": "chat.message", "data": {{"message": "{message}"}}}}')
        refused = await network.text()

    assert '"code": "too_many_bytes"' in refused
    assert [data["message"] for data in await session.scalars(select(Event.data))] == ["12345678"]


async def granted(limit: ByteLimit, person: object, count: int) -> bool:
    try:
        await limit.take(person, count)  # type: ignore[arg-type]
    except TooManyBytes:
        return False
    return True


@pytest.mark.usefixtures("clean_redis")
async def test_all_processes_count_together(redis_url: str) -> None:
    redis = connect_redis(redis_url)
    processes = [ByteLimit(SharedStorage(redis), Reach(), 16 * UNIT) for _ in range(2)]
    person = uuid4()

    answers = await asyncio.gather(*(granted(processes[number % 2], person, UNIT) for number in range(24)))
    await redis.aclose()

    assert sum(answers) == 16


@pytest.mark.usefixtures("clean_redis")
async def test_few_of_many_small_bodies_ask_redis(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    redis = connect_redis(redis_url)
    storage = SharedStorage(redis)
    asked = []
    hit = storage.hit_and_look

    async def noting(*arguments: object) -> object:
        asked.append(arguments)
        return await hit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(storage, "hit_and_look", noting)
    limit = ByteLimit(storage, Reach(), 256 * MOST)
    person = uuid4()

    for _ in range(4000):
        await limit.take(person, 512)
    await redis.aclose()

    assert len(asked) == 2


async def test_while_redis_is_away_each_process_counts_by_itself_and_a_day_passes() -> None:
    now = 10.5 * DAY
    away = connect_redis("redis://127.0.0.1:1")
    limit = ByteLimit(SharedStorage(away), Reach(), 16 * UNIT, clock=lambda: now)
    person = uuid4()

    today = [await granted(limit, person, 4 * UNIT) for _ in range(5)]
    now += 0.75 * DAY
    tomorrow = [await granted(limit, person, 4 * UNIT) for _ in range(2)]
    now += 3 * DAY
    later = await granted(limit, person, 16 * UNIT)
    await away.aclose()

    assert today == [True, True, True, True, False]
    assert tomorrow == [True, False]
    assert later
