"""The filters of the task list as SQL."""

from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, literal_column, not_
from sqlalchemy.orm import InstrumentedAttribute

from app.core.permissions import Actor
from app.models import Task, is_ready
from app.models.task import search_vector
from app.schemas.task import TaskFilter


def filter_tasks(statement: Select[Task], wanted: TaskFilter, actor: Actor) -> Select[Task]:
    """The tasks that pass all filters; a filter with several values passes any of them."""
    if wanted.status:
        statement = statement.where(Task.status.in_(wanted.status))
    if wanted.priority:
        statement = statement.where(Task.priority.in_(wanted.priority))
    if wanted.category:
        statement = statement.where(Task.category.in_(wanted.category))
    if wanted.owner is not None:
        statement = statement.where(_is_person(Task.owner_id, wanted.owner, actor))
    if wanted.assignee is not None:
        statement = statement.where(_is_person(Task.assignee_id, wanted.assignee, actor))
    if wanted.due_before is not None:
        statement = statement.where(Task.due_at < wanted.due_before)
    if wanted.due_after is not None:
        statement = statement.where(Task.due_at > wanted.due_after)
    if wanted.ready is not None:
        statement = statement.where(is_ready() if wanted.ready else not_(is_ready()))
    if wanted.q is not None:
        statement = statement.where(_has_words(wanted.q))
    return statement


def _is_person(
    column: InstrumentedAttribute[UUID] | InstrumentedAttribute[UUID | None], person: UUID | str, actor: Actor
) -> ColumnElement[bool]:
    if person == "none":
        return column.is_(None)
    return column == (actor.id if person == "me" else person)


def _has_words(words: str) -> ColumnElement[bool]:
    # plainto_tsquery knows no operators, so that no character of the search has a meaning of its own.
    return search_vector().bool_op("@@")(func.plainto_tsquery(literal_column("'simple'::regconfig"), words))
