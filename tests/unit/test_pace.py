"""How fast a caller gets answers: some at once, the others in turn, and none without end."""

import asyncio

import pytest

from app.core.errors import HiveError
from app.limits.pace import MOST_CALLERS, Pace, TooFast

ADA, GRACE = "user/1", "user/2"


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each has waited that had to. Nobody really does."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr("app.limits.pace.asyncio.sleep", sleep)
    return found


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_each_waits_for_those_before_it_of_the_same_caller(waited: list[float]) -> None:
    pace = Pace(10, Clock())
    for _ in range(21):
        await pace.keep(ADA)
    assert waited == []

    await pace.keep(ADA)
    await pace.keep(ADA)
    await pace.keep(GRACE)

    assert waited == pytest.approx([0.1, 0.2])


async def test_a_pause_makes_up_for_what_was_asked_before_it(waited: list[float]) -> None:
    clock = Clock()
    pace = Pace(10, clock)
    for _ in range(40):
        await pace.keep(ADA)
    waited.clear()

    clock.now = 2.0
    await pace.keep(ADA)
    assert waited == []


async def test_of_a_caller_only_so_many_wait(waited: list[float]) -> None:
    pace = Pace(10, Clock())
    with pytest.raises(TooFast) as refusal:
        await asyncio.gather(*(pace.keep(ADA) for _ in range(100)))

    assert (refusal.value.status_code, refusal.value.headers) == (429, {"Retry-After": "1"})
    assert len(waited) == 40
    await pace.keep(GRACE)


async def test_zero_is_any_number(waited: list[float]) -> None:
    pace = Pace(0, Clock())
    for _ in range(1000):
        await pace.keep(ADA)

    assert waited == []


async def test_of_many_callers_the_oldest_begins_anew(waited: list[float]) -> None:
    pace = Pace(1, Clock())
    for _ in range(6):
        await pace.keep(ADA)
    with pytest.raises(HiveError):
        for _ in range(6):
            await pace.keep(ADA)
    waited.clear()

    for number in range(MOST_CALLERS):
        await pace.keep(f"caller {number}")
    await pace.keep(ADA)

    assert waited == []
