"""Dates alone, as the times that they stand for where the account is."""

from typing import TypeVar

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import aliased

from app.core.permissions import Actor
from app.core.time_zones import Day
from app.db.statements import keep
from app.db.transaction import Transaction
from app.models import User
from app.schemas.task import TaskCreate, TaskFilter, TaskUpdate

Body = TypeVar("Body", TaskCreate, TaskUpdate)
Filter = TypeVar("Filter", bound=TaskFilter)

_OWNER = aliased(User)
# An agent is where its owner is.
SELECT_TIME_ZONE = keep(
    select(func.coalesce(_OWNER.time_zone, User.time_zone))
    .select_from(User)
    .outerjoin(_OWNER, _OWNER.id == User.owner_id)
    .where(User.id == bindparam("user_id"))
)


async def settle_due(transaction: Transaction, actor: Actor, body: Body) -> Body:
    """Return the body with the last instant of the day in place of a date alone."""
    if not isinstance(body.due_at, Day):
        return body
    [time_zone] = await transaction.scalars(SELECT_TIME_ZONE, {"user_id": actor.id})
    return body.model_copy(update={"due_at": body.due_at.ends(time_zone)})


def names_day(wanted: TaskFilter) -> bool:
    """Whether a filter depends on where the account is."""
    return isinstance(wanted.due_before, Day) or isinstance(wanted.due_after, Day)


def settle_filter(wanted: Filter, time_zone: str) -> Filter:
    """Return the filter with times in place of dates: before a day begins, and after it ends."""
    settled = {}
    if isinstance(wanted.due_before, Day):
        settled["due_before"] = wanted.due_before.begins(time_zone)
    if isinstance(wanted.due_after, Day):
        settled["due_after"] = wanted.due_after.ends(time_zone)
    return wanted.model_copy(update=settled)
