"""Counts for anyone: numbers only, and no name that isn't public."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import func, select

from app.database import Database
from app.models import Task, TaskPriority, TaskStatus, User
from app.reads.json_columns import as_json_list
from app.schemas.dashboard import DashboardSummary, TaskCounts, UserCounts
from app.statements import Statement

# All rows are counted. Where that takes so long, it's done no oftener than leaves the server nine tenths of its time.
COSTLY_SECONDS = 0.05
KEEP_FACTOR = 10


@dataclass(frozen=True, slots=True)
class _Counts:
    tasks: TaskCounts
    users: int
    active_users: int
    counted_at: datetime


class DashboardReads:
    """Of few tasks each summary is counted anew; of very many (some 300,000 and more) it may be a moment old."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._kept: _Counts | None = None
        self._kept_until = 0.0
        # Until it's known. Many counts of a million tasks at once would take all connections for seconds.
        self._is_costly = True
        self._counting: asyncio.Task[_Counts] | None = None

    async def summarize(self, *, online: int) -> DashboardSummary:
        """`online` comes from the sockets, which are no business of the database."""
        counts = self._kept if self._kept and self._clock() < self._kept_until else await self._count()
        users = UserCounts(total=counts.users, active=counts.active_users, online=online)
        return DashboardSummary.of(counts.tasks, users, counted_at=counts.counted_at)

    async def _count(self) -> _Counts:
        if not self._is_costly:
            return await self._read()
        # Once for all who ask meanwhile, and also if whoever asked first goes away.
        if self._counting is None or self._counting.done():
            self._counting = asyncio.create_task(self._read())
        return await asyncio.shield(self._counting)

    async def _read(self) -> _Counts:
        began = self._clock()
        row = await self._database.read(_counting().sql, [])
        took = self._clock() - began
        assert row is not None
        kinds, users, active_users, counted_at = row
        counts = _Counts(_count_tasks(json.loads(kinds)), users, active_users, counted_at)
        self._is_costly = took >= COSTLY_SECONDS
        self._kept, self._kept_until = counts, began + took * (1 + KEEP_FACTOR) if self._is_costly else 0.0
        return counts


@cache
def _counting() -> Statement:
    kinds = select(Task.status, Task.priority, Task.category, func.count().label("number"))
    kind = kinds.group_by(Task.status, Task.priority, Task.category).subquery("kind")
    users = select(func.count(), func.count().filter(User.is_active)).select_from(User).subquery("people")
    return Statement.of(select(select(as_json_list(kind)).scalar_subquery(), *users.c, func.statement_timestamp()))


def _count_tasks(kinds: list[Mapping[str, Any]]) -> TaskCounts:
    by_status = dict.fromkeys(TaskStatus, 0)
    by_priority = dict.fromkeys(TaskPriority, 0)
    by_category: dict[str, int] = {}
    for kind in kinds:
        status, category, number = TaskStatus(kind["status"]), kind["category"], kind["number"]
        by_status[status] += number
        by_priority[TaskPriority(kind["priority"])] += number
        if status is not TaskStatus.DRAFT:
            by_category[category] = by_category.get(category, 0) + number
    return TaskCounts(
        total=sum(by_status.values()),
        by_status=by_status,
        by_priority=by_priority,
        by_category=dict(sorted(by_category.items())),
    )
