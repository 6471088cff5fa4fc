"""The filters of the task list as SQL. What is asked for has names in it, so that a statement serves all who ask so."""

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    Subquery,
    Uuid,
    any_,
    bindparam,
    case,
    func,
    literal_column,
    not_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSQUERY
from sqlalchemy.orm import InstrumentedAttribute

from app.core.permissions import Visibility
from app.db.statements import GIVEN, keep
from app.models import Task, is_ready
from app.schemas.task import TaskFilter
from app.search_words import as_tsquery, likely_rarest

# The names of the words that are looked for, and of those among them that are looked up first.
WORDS, RAREST = "words", "rarest"
# That of the tasks that were looked up, and how many they may be.
IDS, MOST_IDS = "ids", 2_000
# The values that are in the statement itself. All others are given at each use.
FIXED = frozenset({(), None, True, False, "me", "none"})


def filter_tasks(
    statement: Select[Task], wanted: TaskFilter, visibility: Visibility, *, rare: ColumnElement[bool] | None = None
) -> Select[Task]:
    """The tasks that pass all filters; a filter with several values passes any of them. `me` is who asks.

    `rare` decides how the words of `q` are looked for, and not what is found: it's what few tasks pass, and all that
    have the words.
    """
    if wanted.status:
        statement = statement.where(Task.status.in_(_each("status", wanted.status)))
    if wanted.priority:
        statement = statement.where(Task.priority.in_(_each("priority", wanted.priority)))
    if wanted.category:
        statement = statement.where(Task.category.in_(_each("category", wanted.category)))
    if wanted.owner is not None:
        statement = statement.where(_is_person(Task.owner_id, "owner", wanted.owner, visibility))
    if wanted.assignee is not None:
        statement = statement.where(_is_person(Task.assignee_id, "assignee", wanted.assignee, visibility))
    if wanted.due_before is not None:
        statement = statement.where(Task.due_at < bindparam("due_before", wanted.due_before))
    if wanted.due_after is not None:
        statement = statement.where(Task.due_at > bindparam("due_after", wanted.due_after))
    if wanted.ready is not None:
        statement = statement.where(is_ready() if wanted.ready else not_(is_ready()))
    if wanted.q is not None:
        statement = statement.where(has_words(Task.words), *([] if rare is None else [rare]))
    return statement


def rare_searches(q: str) -> list[str]:
    """What to look up first, if few tasks have it: a word of a search, or all of them."""
    return list(dict.fromkeys([*likely_rarest(q), as_tsquery(q)]))


@cache
def count_up_to(most: int) -> Select[int]:
    """Count the tasks that have the rarest word, visible or not, up to one more than `most`."""
    return keep(select(func.count()).select_from(_some_with_rarest_word(most)))


@cache
def ids_up_to(most: int) -> Select[int, Sequence[UUID] | None]:
    """The number of matching tasks, and their ids if they are few enough to be sent back."""
    some = _some_with_rarest_word(most)
    return select(func.count(), case((func.count() <= literal_column(str(MOST_IDS)), func.array_agg(some.c.id))))


def _some_with_rarest_word(most: int) -> Subquery:
    return select(Task.id).where(_has(Task.words, RAREST)).limit(literal_column(str(most + 1))).subquery("some")


@lru_cache(maxsize=1024)
def filter_values(wanted: TaskFilter) -> Mapping[str, object]:
    """What the names in such a statement stand for."""
    values: dict[str, object] = {}
    for name in ("status", "priority", "category"):
        values |= {_nth(name, number): value for number, value in enumerate(getattr(wanted, name))}
    values |= {"owner": wanted.owner, "assignee": wanted.assignee}
    values |= {"due_before": wanted.due_before, "due_after": wanted.due_after}
    return values | {WORDS: as_tsquery(wanted.q or "")}


@lru_cache(maxsize=1024)
def kinds_of_filters(wanted: TaskFilter) -> tuple[object, ...]:
    """Equal for all filters that one statement can serve."""
    return tuple(_kind_of(getattr(wanted, name)) for name in TaskFilter.model_fields)


def _kind_of(value: object) -> object:
    if value in FIXED:
        return value
    return len(value) if isinstance(value, tuple) else GIVEN


def _each(name: str, values: Sequence[str]) -> list[BindParameter[str]]:
    return [bindparam(_nth(name, number), value) for number, value in enumerate(values)]


def _nth(name: str, number: int) -> str:
    return f"{name}_is_{number}"


def _is_person(
    column: InstrumentedAttribute[UUID] | InstrumentedAttribute[UUID | None],
    name: str,
    person: UUID | str,
    visibility: Visibility,
) -> ColumnElement[bool]:
    if person == "none":
        return column.is_(None)
    return column == (visibility.viewer_id if person == "me" else bindparam(name, person))


def has_words(column: InstrumentedAttribute[str | None]) -> ColumnElement[bool]:
    """Whether words are those that are looked for."""
    return _has(column, WORDS)


def is_one_of(ids: Select[UUID]) -> ColumnElement[bool]:
    """Whether a task is one of these, which PostgreSQL finds before all else."""
    return Task.id == any_(func.array(ids.scalar_subquery()))


def is_given() -> ColumnElement[bool]:
    """Whether a task is one of those whose ids are given."""
    return Task.id == any_(bindparam(IDS, type_=ARRAY(Uuid())))


def has_rarest_word() -> ColumnElement[bool]:
    """Whether a task has the rarest of the words."""
    # Found first, as a list of ids. PostgreSQL's statistics know nothing of rare words, so it may expect many tasks to
    # have them, and go through all tasks in the order of the list until enough are found.
    return is_one_of(select(Task.id).where(_has(Task.words, RAREST)).correlate(None))


def _has(column: InstrumentedAttribute[str | None], search: str) -> ColumnElement[bool]:
    return column.bool_op("@@")(bindparam(search, type_=TSQUERY()))
