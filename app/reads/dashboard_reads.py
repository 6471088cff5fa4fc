"""Counts for anyone: numbers only, and no name that isn't public."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, cast, func, literal_column, select

from app.database import Database
from app.db.statements import Statement
from app.models import Task, TaskPriority, TaskStatus, User
from app.reads.json_columns import as_json_list
from app.schemas.dashboard import DashboardSummary, TaskCounts, UserCounts

# All rows are counted. Where that takes so long, it's done no oftener than leaves the server nine tenths of its time.
COSTLY_SECONDS = 0.05
KEEP_FACTOR = 10
# That are named, the most frequent ones. Anybody may make up others, and their tasks count under this name.
MAX_CATEGORIES = 20
OTHER = "other"


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
        # Once for all who ask meanwhile, and also if the first one goes away.
        if self._counting is None or self._counting.done():
            self._counting = asyncio.create_task(self._read())
        return await asyncio.shield(self._counting)

    async def _read(self) -> _Counts:
        began = self._clock()
        statement = _counting()
        row = await self._database.read(statement.sql, statement.arguments({}))
        took = self._clock() - began
        assert row is not None
        states, frequent, users, active_users, counted_at = row
        tasks = _count_tasks(json.loads(states), json.loads(frequent))
        counts = _Counts(tasks, users, active_users, counted_at)
        self._is_costly = took >= COSTLY_SECONDS
        self._kept, self._kept_until = counts, began + took * (1 + KEEP_FACTOR) if self._is_costly else 0.0
        return counts


@cache
def _counting() -> Statement:
    number = func.count().label("number")
    grouped = select(Task.status, Task.priority, Task.category, number)
    kind = grouped.group_by(Task.status, Task.priority, Task.category).cte("kind")
    sum_of_kinds = cast(func.sum(kind.c.number), BigInteger()).label("number")
    states = select(kind.c.status, kind.c.priority, sum_of_kinds).group_by(kind.c.status, kind.c.priority)
    # Only their owners know the categories of drafts.
    shared = select(kind.c.category, sum_of_kinds).where(kind.c.status != TaskStatus.DRAFT).group_by(kind.c.category)
    frequent = shared.order_by(sum_of_kinds.desc(), kind.c.category).limit(literal_column(str(MAX_CATEGORIES)))
    lists = (select(as_json_list(rows.subquery("item"))).scalar_subquery() for rows in (states, frequent))
    users = select(func.count(), func.count().filter(User.is_active)).select_from(User).subquery("people")
    return Statement.of(select(*lists, *users.c, func.statement_timestamp()))


def _count_tasks(states: list[Mapping[str, Any]], frequent: list[Mapping[str, Any]]) -> TaskCounts:
    by_status = dict.fromkeys(TaskStatus, 0)
    by_priority = dict.fromkeys(TaskPriority, 0)
    for state in states:
        by_status[TaskStatus(state["status"])] += state["number"]
        by_priority[TaskPriority(state["priority"])] += state["number"]
    total = sum(by_status.values())
    by_category = {each["category"]: each["number"] for each in frequent}
    if others := total - by_status[TaskStatus.DRAFT] - sum(by_category.values()):
        by_category[OTHER] = by_category.get(OTHER, 0) + others
    return TaskCounts(
        total=total,
        by_status=by_status,
        by_priority=by_priority,
        by_category=dict(sorted(by_category.items())),
    )
