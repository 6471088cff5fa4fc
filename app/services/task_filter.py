"""The filters of the task list as SQL. What is asked for has names in it, so that a statement serves all who ask so."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    any_,
    bindparam,
    func,
    literal_column,
    not_,
    select,
)
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.orm import InstrumentedAttribute

from app.core.permissions import Actor, viewer_id
from app.models import Task, is_ready
from app.schemas.task import TaskFilter
from app.search_words import as_tsquery

# Words are rare if so many tasks at most have them.
FEW = 2_000


def filter_tasks(
    statement: Select[Task], wanted: TaskFilter, actor: Actor, *, are_words_rare: bool = False
) -> Select[Task]:
    """The tasks that pass all filters; a filter with several values passes any of them.

    `are_words_rare` decides how the words of `q` are looked for, and not what is found.
    """
    if wanted.status:
        statement = statement.where(Task.status.in_(_each("status", wanted.status)))
    if wanted.priority:
        statement = statement.where(Task.priority.in_(_each("priority", wanted.priority)))
    if wanted.category:
        statement = statement.where(Task.category.in_(_each("category", wanted.category)))
    if wanted.owner is not None:
        statement = statement.where(_is_person(Task.owner_id, "owner", wanted.owner, actor))
    if wanted.assignee is not None:
        statement = statement.where(_is_person(Task.assignee_id, "assignee", wanted.assignee, actor))
    if wanted.due_before is not None:
        statement = statement.where(Task.due_at < bindparam("due_before", wanted.due_before))
    if wanted.due_after is not None:
        statement = statement.where(Task.due_at > bindparam("due_after", wanted.due_after))
    if wanted.ready is not None:
        statement = statement.where(is_ready() if wanted.ready else not_(is_ready()))
    if wanted.q is not None:
        statement = statement.where(_has_rare_words(wanted.q) if are_words_rare else _has_words(wanted.q))
    return statement


def count_of_few(words: str) -> Select[int]:
    """How many tasks have the words, whoever may see them; counted up to one more than `FEW`."""
    some = select(Task.id).where(_has_words(words)).limit(literal_column(str(FEW + 1)))
    return select(func.count()).select_from(some.subquery())


def filter_values(wanted: TaskFilter) -> Mapping[str, object]:
    """What the names in such a statement stand for."""
    values: dict[str, object] = {}
    for name in ("status", "priority", "category"):
        values |= {_nth(name, number): value for number, value in enumerate(getattr(wanted, name))}
    values |= {"owner": wanted.owner, "assignee": wanted.assignee}
    values |= {"due_before": wanted.due_before, "due_after": wanted.due_after}
    return values | {"words": as_tsquery(wanted.q or "")}


def _each(name: str, values: Sequence[str]) -> list[BindParameter[str]]:
    return [bindparam(_nth(name, number), value) for number, value in enumerate(values)]


def _nth(name: str, number: int) -> str:
    return f"{name}_is_{number}"


def _is_person(
    column: InstrumentedAttribute[UUID] | InstrumentedAttribute[UUID | None],
    name: str,
    person: UUID | str,
    actor: Actor,
) -> ColumnElement[bool]:
    if person == "none":
        return column.is_(None)
    return column == (viewer_id(actor) if person == "me" else bindparam(name, person))


def _has_words(words: str) -> ColumnElement[bool]:
    return Task.words.bool_op("@@")(bindparam("words", as_tsquery(words), TSQUERY()))


def _has_rare_words(words: str) -> ColumnElement[bool]:
    # Found first, as a list of ids. PostgreSQL's statistics know nothing of rare words, so it may expect many tasks to
    # have them, and go through all tasks in the order of the list until enough are found.
    found = select(Task.id).where(_has_words(words)).correlate(None)
    return Task.id == any_(func.array(found.scalar_subquery()))
