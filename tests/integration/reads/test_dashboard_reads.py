"""How often the dashboard is counted: each time while that is cheap, and no oftener than it can be borne."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.models import TaskPriority, TaskStatus, User
from app.reads.dashboard_reads import COSTLY_SECONDS, KEEP_FACTOR, DashboardReads
from tests.builders.tasks import create_task


class Clock:
    """Stands still, but for the time that each reading takes."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.reading_takes = 0.0

    def __call__(self) -> float:
        return self.now


class SlowDatabase(Database):
    """The real one, whose answers take the clock's time."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self.readings = 0

    async def read(self, sql: str, arguments: Sequence[object]) -> Any:
        self.readings += 1
        row = await self._database.read(sql, arguments)
        self._clock.now += self._clock.reading_takes
        return row


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def slow(database: Database, clock: Clock) -> SlowDatabase:
    return SlowDatabase(database, clock)


async def total(reads: DashboardReads) -> int:
    return (await reads.summarize(online=0)).tasks.total


async def test_few_tasks_are_counted_each_time(
    slow: SlowDatabase, clock: Clock, session: AsyncSession, user: User
) -> None:
    reads = DashboardReads(slow, clock=clock)
    clock.reading_takes = COSTLY_SECONDS / 2
    for expected in range(3):
        assert await total(reads) == expected
        await create_task(session, owner=user)
    assert slow.readings == 3


async def test_many_tasks_are_counted_once_for_a_while(
    slow: SlowDatabase, clock: Clock, session: AsyncSession, user: User
) -> None:
    reads = DashboardReads(slow, clock=clock)
    clock.reading_takes = 0.2
    assert await total(reads) == 0
    await create_task(session, owner=user)

    clock.now += 0.2 * KEEP_FACTOR - 0.01
    assert await total(reads) == 0
    clock.now += 0.02
    assert await total(reads) == 1
    assert slow.readings == 2


async def test_who_is_online_is_told_anew_each_time(slow: SlowDatabase, clock: Clock) -> None:
    reads = DashboardReads(slow, clock=clock)
    clock.reading_takes = 1

    assert [(await reads.summarize(online=number)).users.online for number in (3, 4)] == [3, 4]
    assert slow.readings == 1


async def test_all_who_ask_while_many_are_counted_get_the_same_count(slow: SlowDatabase, clock: Clock) -> None:
    reads = DashboardReads(slow, clock=clock)
    clock.reading_takes = 1
    await total(reads)
    clock.now += 100

    asking = [asyncio.create_task(total(reads)) for _ in range(20)]
    await asyncio.sleep(0)
    asking[0].cancel()

    assert await asyncio.gather(*asking[1:]) == [0] * 19
    assert slow.readings == 2


async def test_whoever_comes_first_does_not_come_alone(slow: SlowDatabase, clock: Clock) -> None:
    """How long it takes is not known yet, and many counts of a million at once would take all connections."""
    reads = DashboardReads(slow, clock=clock)
    clock.reading_takes = 1

    assert await asyncio.gather(*(total(reads) for _ in range(40))) == [0] * 40
    assert slow.readings == 1


async def test_what_has_become_few_is_counted_each_time_again(
    slow: SlowDatabase, clock: Clock, session: AsyncSession, user: User
) -> None:
    reads = DashboardReads(slow, clock=clock)
    clock.reading_takes = 1
    await total(reads)
    clock.now, clock.reading_takes = clock.now + 100, 0.001
    await total(reads)
    await create_task(session, owner=user)

    assert await total(reads) == 1


async def test_flat_names_say_what_the_groups_say(
    client: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    for status, priority, category in (
        (TaskStatus.COMPLETED, TaskPriority.HIGH, "roses"),
        (TaskStatus.AVAILABLE, TaskPriority.LOW, "tulips"),
        (TaskStatus.DRAFT, TaskPriority.LOW, "a secret"),
    ):
        await create_task(session, owner=user, status=status, priority=priority, category=category)

    before = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    told = (await client.get("/dashboard/summary")).json()
    after = (await session.execute(select(func.clock_timestamp()))).scalar_one()

    assert (told["total_tasks"], told["completed_tasks"]) == (3, 1)
    assert (told["active_users"], told["online_users"]) == (1, 0)
    assert told["tasks_by_priority"] == told["tasks"]["by_priority"] == {"urgent": 0, "high": 1, "medium": 0, "low": 2}
    assert told["tasks_by_category"] == told["tasks"]["by_category"] == {"roses": 1, "tulips": 1}
    assert before <= datetime.fromisoformat(told["last_updated"]) <= after


async def test_rare_categories_are_counted_as_one(
    client: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    for number in range(25):
        await create_task(session, owner=user, category=f"rare {number:02}")
    for category in ("roses", "tulips", "other"):
        await create_task(session, owner=user, category=category)
        await create_task(session, owner=user, category=category)
    await create_task(session, owner=user, category="rare 24", status=TaskStatus.DRAFT)

    told = (await client.get("/dashboard/summary")).json()["tasks"]["by_category"]

    # Of equally frequent ones the first by name.
    assert told == {f"rare {number:02}": 1 for number in range(17)} | {"roses": 2, "tulips": 2, "other": 2 + 8}
