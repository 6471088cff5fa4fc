"""Registrations have a line of their own, and hold no connection while they wait in it."""

import asyncio
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI

from app.api import registering
from app.config import Settings
from app.core.redis import connect_redis
from app.limits.registrations import RegistrationLimit, TooManyRegistrations
from app.limits.shared import Reach, SharedStorage
from tests.utils.test_utils import wait_until_async


def registration() -> dict[str, str]:
    return {"email": f"{uuid4()}@example.org", "password": "seven green bottles"}


@pytest.mark.usefixtures("clean_redis")
async def test_all_processes_together_take_so_many_from_one_address(redis_url: str) -> None:
    redis = connect_redis(redis_url)
    processes = [RegistrationLimit(SharedStorage(redis), Reach(), 3) for _ in range(2)]
    for number in range(3):
        await processes[number % 2].count("203.0.113.7")

    for process in processes:
        with pytest.raises(TooManyRegistrations) as refused:
            await process.count("203.0.113.7")
        assert 0 < int(refused.value.headers["Retry-After"]) <= 60
        await process.count(f"203.0.113.{80 + processes.index(process)}")
    await redis.aclose()


async def test_without_redis_each_process_counts_for_itself() -> None:
    away = connect_redis("unix:///nowhere/at-all.sock")
    limit = RegistrationLimit(SharedStorage(away), Reach(), 1)
    await limit.count("203.0.113.7")

    with pytest.raises(TooManyRegistrations):
        await limit.count("203.0.113.7")
    await away.aclose()


async def test_a_further_registration_gets_429(app: FastAPI, client: httpx2.AsyncClient) -> None:
    limits = app.state.hive.limits
    limit = RegistrationLimit(limits.registrations._storage, Reach(), 1)
    object.__setattr__(limits, "registrations", limit)
    assert (await client.post("/auth/register", json=registration())).status_code == 201

    refused = await client.post("/auth/register", json=registration())

    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_registrations")
    assert refused.headers["Retry-After"]


@pytest.mark.committed
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "a-key-of-this-test"}])
async def test_no_connection_is_held_while_a_password_is_hashed(
    app: FastAPI, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    limit = app.state.hive.database._connections._limit
    free = limit._turns._value

    async def hash_slowly(_password: str) -> str:
        begun.set()
        await go_on.wait()
        return "a hash"

    monkeypatch.setattr(registering, "hash_password", hash_slowly)
    first = asyncio.create_task(client.post("/auth/register", json=registration(), headers=headers))
    await begun.wait()
    begun.clear()
    others = [asyncio.create_task(client.post("/auth/register", json=registration())) for _ in range(3)]

    async def are_in_line() -> bool:
        queue = app.state.hive.limits.registrations._turns._queues.get("hash")
        return queue is not None and queue.length == 4

    await wait_until_async(are_in_line, what="those that wait for the first one")
    # They are behind it, and not in the line of those who sign in.
    assert not begun.is_set()
    # One password is being hashed, and neither it nor what waits for its turn has a connection.
    assert limit._turns._value == free
    go_on.set()

    assert [answer.status_code for answer in await asyncio.gather(first, *others)] == [201] * 4


def test_a_stranger_makes_five_accounts_a_minute_unless_told_otherwise() -> None:
    assert Settings(_env_file=None).registrations_per_minute == 5
