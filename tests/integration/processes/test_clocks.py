"""Machines whose clocks differ: what is compared goes by one clock, and the doctor tells of the others."""

import time
from datetime import UTC, datetime

import pytest
from fastapi import FastAPI

from app.clocks import check_clocks
from app.core.redis import connect_redis
from app.limits.rules import Rule
from app.limits.shared import SharedStorage
from app.state import State

CLOCKS = {"clock of PostgreSQL", "clock of Redis"}


@pytest.fixture
def state(app: FastAPI) -> State:
    found: State = app.state.hive
    return found


async def test_clocks_that_agree_are_well(state: State) -> None:
    checks = await check_clocks(state)

    assert checks.keys() == CLOCKS
    assert all(check.ok for check in checks.values())


@pytest.mark.parametrize("seconds", [-3600, -7, 7, 3600])
async def test_a_clock_that_is_off_is_told_with_its_direction(state: State, seconds: int) -> None:
    checks = await check_clocks(state, lambda: time.time() - seconds)

    assert checks.keys() == CLOCKS
    for check in checks.values():
        assert not check.ok
        assert f"{'ahead of' if seconds > 0 else 'behind'} this machine" in check.detail
        assert f" {abs(seconds)}." in check.detail or f" {abs(seconds) - 1}.9" in check.detail


async def test_a_slow_answer_is_no_skew(state: State) -> None:
    """A round trip of twenty seconds says nothing about nine of them."""
    moments = iter([time.time() - 1, time.time() + 19] * 2)

    assert all(check.ok for check in (await check_clocks(state, lambda: next(moments))).values())


@pytest.mark.parametrize("seconds", [-3600, 3600])
async def test_a_window_of_sign_ins_is_the_same_for_all_clocks(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    limit = Rule(f"clocks-{datetime.now(UTC).timestamp()}-{seconds}", ((3, 60),))
    async with connect_redis(redis_url) as redis:
        storage = SharedStorage(redis)
        taken = [await storage.take_place(limit, "ada") for _ in range(3)]
        # Another machine's process.
        monkeypatch.setattr(time, "time", lambda: datetime.now(UTC).timestamp() + seconds)

        refused = await storage.take_place(limit, "ada")

        assert taken == [0, 0, 0]
        assert 0 < refused <= 60
        await storage.give_back(limit, "ada")
        assert await storage.take_place(limit, "ada") == 0
