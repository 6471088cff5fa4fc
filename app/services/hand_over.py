"""Handing over all tasks of an account, in batches of one transaction each."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import select

from app.core.permissions import SYSTEM, audience_of, either_of
from app.db.transaction import Transaction
from app.events import outbox
from app.events.types import TaskUpdated
from app.models import Task
from app.services.account_locks import lock_active_user
from app.services.assignment_service import UserNotFound

BATCH = 200


async def hand_over_batch(transaction: Transaction, *, owners: Collection[UUID], new_owner: UUID) -> int | None:
    """Hand some tasks of these accounts over, and return how many; None if there are none left.

    It can be repeated after a crash: what was handed over already isn't theirs any more.

    Raises:
        UserNotFound: the new owner is unknown, or their account has ended.
    """
    if not await lock_active_user(transaction, new_owner):
        raise UserNotFound
    owned = select(Task).where(Task.owner_id.in_(owners))
    first = list(await transaction.scalars(owned.with_only_columns(Task.id).order_by(Task.id).limit(BATCH)))
    if not first:
        return None
    # Somebody else may be about to hand over or delete some of them; those are no longer found when they are locked.
    locked = owned.where(Task.id.in_(first)).order_by(Task.id).with_for_update()
    tasks = list(await transaction.scalars(locked))
    for task in tasks:
        before = audience_of(task)
        task.owner_id = new_owner
        task.version += 1
        event = TaskUpdated(changed={"owner_id": str(new_owner)})
        audience = either_of(before, audience_of(task))
        await outbox.record(transaction, event, actor=SYSTEM, task=task, audience=audience)
    return len(tasks)
