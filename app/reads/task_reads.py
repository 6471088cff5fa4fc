from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from uuid import UUID

from asyncpg import Record
from cachetools import LRUCache, cached

from app.core.permissions import Actor, TaskNotFound, Visibility
from app.database import Database
from app.db.statements import Statement
from app.limits.answers import AnswersInFlight
from app.limits.turns import Turns
from app.reads.task_statements import fixed_limit, one_task, page_of_first_tasks, page_of_tasks
from app.schemas.task import TaskListQuery
from app.services.due_times import SELECT_TIME_ZONE, names_day, settle_filter
from app.services.pages import CursorCodec, Position
from app.services.task_filter import (
    IDS,
    MOST_IDS,
    RAREST,
    filter_values,
    has_rarest_word,
    ids_up_to,
    is_given,
    kinds_of_filters,
    rare_searches,
)
from app.services.task_lists import scope_of_tasks

# So many tasks are gone through in a few milliseconds. Words that fewer than one in a hundred of them have are looked
# up in the index.
FIRST = 5_000
# So many tasks are looked up by their ids in less time than PostgreSQL needs to go through a million.
FEW = 50_000
# More ways to ask than anybody has; past that the one that was used least recently is made anew.
MOST_STATEMENTS = 500


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


class _Way(Enum):
    """How the tasks of a list are looked for."""

    LISTED = auto()
    # Among those that the list begins with.
    FIRST = auto()
    # Among the few that have the rarest word.
    RARE = auto()
    # Among those that were found to have it.
    GIVEN = auto()


_RARE_BY = {_Way.RARE: has_rarest_word(), _Way.GIVEN: is_given()}


class TaskReads:
    """A task, and lists of tasks, as one may see them."""

    def __init__(self, database: Database, cursors: CursorCodec, searches: Turns, answers: AnswersInFlight) -> None:
        self._database = database
        self._cursors = cursors
        self._searches = searches
        self._answers = answers

    async def get(self, actor: Actor, task_id: UUID) -> FoundTask:
        """Raises `TaskNotFound` for one that the actor may not know of, too."""
        visibility = actor.visibility
        given = {"task_id": task_id, **visibility.statement_values}
        row = await self._read(one_task(visibility.statement_key), given)
        if row is None:
            raise TaskNotFound
        return FoundTask(*row)

    async def list(self, actor: Actor, query: TaskListQuery) -> FoundTasks:
        if names_day(query):
            query = settle_filter(query, await self._time_zone(actor))
        scope = scope_of_tasks(actor, query)
        position = self._cursors.decode(query.cursor, scope=scope) if query.cursor else None
        key, given = actor.visibility.statement_key, self._given(actor, query, position)
        if query.q is None:
            row = await self._read(_page(_Way.LISTED, key, query, position), given)
        else:
            async with self._searches.of(str(actor.id)):
                row = await self._search(query.q, key, query, position, given)
        assert row is not None
        json, seq, epoch, last_key, last_id, *_ = row
        cursor = self._cursors.encode(Position(last_key, last_id), scope=scope) if last_id else None
        return FoundTasks(json, cursor, seq, epoch)

    async def _time_zone(self, actor: Actor) -> str:
        row = await self._read(_time_zone(), {"user_id": actor.id})
        assert row is not None
        return str(row[0])

    async def _search(
        self, q: str, key: Visibility, query: TaskListQuery, position: Position | None, given: Mapping[str, object]
    ) -> Record | None:
        """The page of the tasks that have the words. How it's looked for depends on how many have them."""
        row = await self._searched(_page(_Way.FIRST, key, query, position, first=FIRST), given)
        *_, is_whole = row or (False,)
        if is_whole:
            return row
        for rarest in rare_searches(q):
            given = {**given, RAREST: rarest}
            count, ids = await self._searched(_rare(FEW), given) or (0, None)
            if count <= FEW:
                way = _Way.GIVEN if count <= MOST_IDS else _Way.RARE
                return await self._searched(_page(way, key, query, position), {**given, IDS: ids or []})
        return await self._searched(_page(_Way.LISTED, key, query, position), given)

    def _given(self, actor: Actor, query: TaskListQuery, position: Position | None) -> Mapping[str, object]:
        after = {"after_key": position.key, "after_id": position.id} if position else {}
        most = {"limit": query.limit, "most_bytes": self._answers.page_bytes}
        return {**actor.visibility.statement_values, **most, **after, **filter_values(query)}

    async def _searched(self, statement: Statement, given: Mapping[str, object]) -> Record | None:
        return await self._database.search(statement.sql, statement.arguments(given))

    async def _read(self, statement: Statement, given: Mapping[str, object]) -> Record | None:
        return await self._database.read(statement.sql, statement.arguments(given))


@cache
def _time_zone() -> Statement:
    return Statement.of(SELECT_TIME_ZONE)


@cache
def _rare(most: int) -> Statement:
    return Statement.of(ids_up_to(most))


def _way_to_ask(
    way: _Way, key: Visibility, query: TaskListQuery, position: Position | None, *, first: int = 0
) -> Hashable:
    """Equal for all requests that one statement can answer."""
    place = position and (position.key is None, "after")
    return way, first, key, place, query.sort, fixed_limit(query), kinds_of_filters(query)


@cached(LRUCache(MOST_STATEMENTS), key=_way_to_ask)
def _page(way: _Way, key: Visibility, query: TaskListQuery, position: Position | None, *, first: int = 0) -> Statement:
    """A page of a list. `first` is how many tasks are gone through where only the first ones are."""
    if way is _Way.FIRST:
        return page_of_first_tasks(key, query, position, first=first)
    return page_of_tasks(key, query, position, rare=_RARE_BY.get(way))
