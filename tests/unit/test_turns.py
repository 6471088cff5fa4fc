"""The line in which readers wait for the database."""

import asyncio

import pytest

from app.websockets import turns
from app.websockets.turns import TooManyWait, Turns
from tests.utils.test_utils import PATIENCE


async def test_only_so_many_have_a_turn_at_once_and_all_get_one() -> None:
    line, present, most = Turns(2), 0, 0

    async def come() -> None:
        nonlocal present, most
        async with line.taken():
            present += 1
            most = max(most, present)
            await asyncio.sleep(0)
            present -= 1

    await asyncio.gather(*(come() for _ in range(9)))

    assert (present, most) == (0, 2)


async def test_who_waits_for_too_long_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE_SECONDS", 0.05)
    line = Turns(1)

    async with line.taken():
        with pytest.raises(TooManyWait) as refused:
            async with line.taken():
                pass

    assert (refused.value.status_code, refused.value.error_code) == (503, "too_busy")
    async with line.taken():
        pass


async def test_a_turn_is_given_back_after_a_fault() -> None:
    line = Turns(1)

    with pytest.raises(ZeroDivisionError):
        async with line.taken():
            raise ZeroDivisionError

    async with asyncio.timeout(PATIENCE), line.taken():
        pass
