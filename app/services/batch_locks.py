"""What a batch locks before it begins, so that two of them, or one and others, never wait for each other.

It's what its items lock one by one, but in the one order: accounts (`account_locks.py`), then tasks by their ids.
"""

from collections.abc import Iterator, Sequence
from uuid import UUID

from pydantic import MISSING
from sqlalchemy import Uuid, any_, bindparam, func, select, union_all
from sqlalchemy.dialects.postgresql import ARRAY

from app.core.errors import Conflict
from app.core.permissions import Actor
from app.db.statements import keep
from app.db.transaction import Transaction
from app.models import Task, TaskBlocker, TaskStatus, User
from app.schemas.batch import AssignItem, BatchItem, ChangeItem, DeleteItem, StatusItem, UpdateItem
from app.services.account_locks import LOCK_ORDER
from app.services.readiness import NAMED, lock_with_waiting

# Each waiting task of each one that a batch ends is told of, once or twice.
MOST_TOLD = 1_000


class TooManyWaitingTasks(Conflict):
    code = "too_many_waiting"

    def __init__(self) -> None:
        super().__init__(
            f"More than {MOST_TOLD} tasks wait for those that the batch completes or deletes; send fewer at a time."
        )


async def lock_for(transaction: Transaction, actor: Actor, items: Sequence[BatchItem]) -> None:
    """Lock all that the items are about, as far as that can be told beforehand.

    Raises:
        TooManyWaitingTasks: so many wait for what the items end that it's too much for one transaction.
    """
    named = {item.id for item in items if isinstance(item, ChangeItem)}
    if not named:
        return
    starting = set(_led_to(items, TaskStatus.IN_PROGRESS))
    receivers = set(_receivers(items))
    if starting or receivers:
        await _lock_people(transaction, receivers | {actor.id}, holding=starting)
    ending = [*_led_to(items, TaskStatus.COMPLETED), *(item.id for item in items if isinstance(item, DeleteItem))]
    if ending and (await transaction.scalars(_COUNT_WAITING, {"named": ending}))[0] > MOST_TOLD:
        raise TooManyWaitingTasks
    await lock_with_waiting(transaction, named, ending=ending)


_COUNT_WAITING = keep(select(func.count()).where(TaskBlocker.blocker_id.in_(NAMED)))


def _receivers(items: Sequence[BatchItem]) -> Iterator[UUID]:
    """The ids of the accounts that are to hold or to own a task."""
    for item in items:
        if isinstance(item, AssignItem):
            yield item.body.user_id
        elif isinstance(item, UpdateItem) and item.body.owner_id is not MISSING:
            yield item.body.owner_id


def _led_to(items: Sequence[BatchItem], status: TaskStatus) -> Iterator[UUID]:
    return (item.id for item in items if isinstance(item, StatusItem | UpdateItem) and item.body.status is status)


_HOLDERS = select(Task.assignee_id).where(Task.id == any_(bindparam("held", type_=ARRAY(Uuid()))))
_PEOPLE = User.id == any_(func.array(union_all(NAMED, _HOLDERS).scalar_subquery()))
_LOCK_PEOPLE = keep(select(User.id).where(_PEOPLE).order_by(*LOCK_ORDER).with_for_update(read=True))


async def _lock_people(transaction: Transaction, user_ids: set[UUID], *, holding: set[UUID]) -> None:
    """Lock the users, and those who hold the tasks."""
    await transaction.execute(_LOCK_PEOPLE, {"named": list(user_ids), "held": list(holding)})
