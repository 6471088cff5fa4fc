"""How fast a caller gets answers: some at once, the others in turn, and none without end."""

import asyncio

import pytest

from app.core.errors import HiveError
from app.limits.pace import MOST_CALLERS, Pace, TooFast
from tests.utils.test_utils import PATIENCE

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
    pace = Pace(10, seconds_at_once=2, clock=Clock())
    for _ in range(21):
        await pace.keep(ADA)
    assert waited == []

    await pace.keep(ADA)
    await pace.keep(ADA)
    await pace.keep(GRACE)

    assert waited == pytest.approx([0.1, 0.2])


async def test_what_costs_as_much_as_many_has_the_next_one_wait_for_as_many(waited: list[float]) -> None:
    pace = Pace(10, seconds_at_once=2, clock=Clock())
    await pace.keep(ADA, requests=30)
    assert waited == []

    await pace.keep(ADA)

    assert waited == pytest.approx([1.0])


async def test_a_pause_makes_up_for_what_was_asked_before_it(waited: list[float]) -> None:
    clock = Clock()
    pace = Pace(10, seconds_at_once=2, clock=clock)
    for _ in range(40):
        await pace.keep(ADA)
    waited.clear()

    clock.now = 2.0
    await pace.keep(ADA)
    assert waited == []


async def test_of_a_caller_only_so_many_wait(waited: list[float]) -> None:
    pace = Pace(10, seconds_at_once=2, clock=Clock())
    with pytest.raises(TooFast) as refusal:
        await asyncio.gather(*(pace.keep(ADA) for _ in range(100)))

    assert (refusal.value.status_code, refusal.value.headers) == (429, {"Retry-After": "1"})
    assert len(waited) == 60
    await pace.keep(GRACE)


async def test_zero_is_any_number(waited: list[float]) -> None:
    pace = Pace(0)
    for _ in range(1000):
        await pace.keep(ADA)

    assert waited == []


async def test_of_many_callers_the_least_recent_begins_anew(waited: list[float]) -> None:
    pace = Pace(1, clock=Clock())
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


async def test_a_busy_caller_does_not_begin_anew_however_many_come(waited: list[float]) -> None:
    pace = Pace(1, clock=Clock())
    await pace.keep(ADA)
    for number in range(MOST_CALLERS - 1):
        await pace.keep(f"caller {number}")
    await pace.keep(ADA)
    assert waited == []

    await pace.keep("one more")
    await pace.keep(ADA)

    assert waited == [1.0]


@pytest.mark.parametrize(("per_minute", "at_once"), [(5, 100), (1200, 100), (12_000, 1_000)])
async def test_a_minutes_requests_can_all_be_made_though_not_at_once(
    waited: list[float], per_minute: int, at_once: int
) -> None:
    pace = Pace.of_users(per_minute)
    for _ in range(max(per_minute, at_once)):
        await pace.keep(ADA)

    # It's by a real clock here, which goes on meanwhile.
    assert len(waited) <= max(per_minute - at_once, 0)
    assert all(seconds <= 6 for seconds in waited)


async def test_without_a_limit_a_user_may_make_any_number() -> None:
    pace = Pace.of_users(0)
    async with asyncio.timeout(PATIENCE):
        for _ in range(5_000):
            await pace.keep(ADA)
