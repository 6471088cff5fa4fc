from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from uuid import UUID

from asyncpg import Record

from app.core.permissions import Actor, TaskNotFound
from app.database import Database
from app.reads.task_statements import fixed_limit, one_task, page_of_tasks
from app.schemas.task import TaskFilter, TaskListQuery
from app.services.due_times import SELECT_TIME_ZONE, names_day, settle_filter
from app.services.pages import CursorCodec, Position
from app.services.task_filter import FEW, count_of_few, filter_values
from app.services.task_lists import scope_of_tasks
from app.statements import GIVEN, Statement

# More ways to ask than anybody has; past that the oldest is made anew.
MOST_STATEMENTS = 500
# The values that are in the statement itself. All others are given at each use.
FIXED = frozenset({(), None, True, False, "me", "none"})


@dataclass(frozen=True, slots=True)
class FoundTask:
    """`json` is what `TaskResponse` would be."""

    version: int
    json: str


@dataclass(frozen=True, slots=True)
class FoundTasks:
    """A page of a list. `json` is true for `seq` of the history `epoch`: what is told after it came later."""

    json: str
    next_cursor: str | None
    seq: int
    epoch: UUID


class TaskReads:
    """A task, and lists of tasks, as one may see them."""

    def __init__(self, database: Database, cursors: CursorCodec) -> None:
        self._database = database
        self._cursors = cursors
        self._statements: dict[object, Statement] = {}

    async def get(self, actor: Actor, task_id: UUID) -> FoundTask:
        """Raises `TaskNotFound` for one that the actor may not know of, too."""
        statement = self._statements.get(actor.is_admin) or self._keep(actor.is_admin, one_task(actor))
        row = await self._read(statement, {"task_id": task_id, "viewer_id": actor.id})
        if row is None:
            raise TaskNotFound
        return FoundTask(*row)

    async def list(self, actor: Actor, query: TaskListQuery) -> FoundTasks:
        if names_day(query):
            query = settle_filter(query, await self._time_zone(actor))
        scope = scope_of_tasks(actor, query)
        position = self._cursors.decode(query.cursor, scope=scope) if query.cursor else None
        given = _given(actor, query, position)
        are_rare = query.q is not None and await self._has_few(given)
        way = _way_to_ask(actor, query, position), are_rare
        statement = self._statements.get(way) or self._keep(
            way, page_of_tasks(actor, query, position, are_words_rare=are_rare)
        )
        row = await self._read(statement, given)
        assert row is not None
        json, seq, epoch, last_key, last_id = row
        cursor = self._cursors.encode(Position(last_key, last_id), scope=scope) if last_id else None
        return FoundTasks(json, cursor, seq, epoch)

    async def _time_zone(self, actor: Actor) -> str:
        row = await self._read(_time_zone(), {"user_id": actor.id})
        assert row is not None
        return str(row[0])

    async def _has_few(self, given: Mapping[str, object]) -> bool:
        """Whether few tasks have the words that are looked for."""
        row = await self._read(_count_of_few(), given)
        assert row is not None
        return int(row[0]) <= FEW

    async def _read(self, statement: Statement, given: Mapping[str, object]) -> Record | None:
        return await self._database.read(statement.sql, statement.arguments(given))

    def _keep(self, way: object, statement: Statement) -> Statement:
        if len(self._statements) >= MOST_STATEMENTS:
            del self._statements[next(iter(self._statements))]
        self._statements[way] = statement
        return statement


@cache
def _time_zone() -> Statement:
    return Statement.of(SELECT_TIME_ZONE)


@cache
def _count_of_few() -> Statement:
    return Statement.of(count_of_few(""))


def _way_to_ask(actor: Actor, query: TaskListQuery, position: Position | None) -> object:
    """The same for all who can be answered by the same statement."""
    place = position and (position.key is None, "after")
    return actor.is_admin, place, query.sort, fixed_limit(query), _kinds_of_filters(query)


@lru_cache(maxsize=1024)
def _kinds_of_filters(query: TaskListQuery) -> tuple[object, ...]:
    return tuple(_kind_of(getattr(query, name)) for name in TaskFilter.model_fields)


def _kind_of(value: object) -> object:
    if value in FIXED:
        return value
    return len(value) if isinstance(value, tuple) else GIVEN


def _given(actor: Actor, query: TaskListQuery, position: Position | None) -> Mapping[str, object]:
    after = {"after_key": position.key, "after_id": position.id} if position else {}
    return {"viewer_id": actor.id, "limit": query.limit, **after, **filter_values(query)}
