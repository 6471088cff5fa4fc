"""What a batch locks before it begins, so that two of them, or one and others, never wait for each other.

It's what its items lock one by one, but in the one order: people, then tasks, each by their ids.
"""

from collections.abc import Iterator, Sequence
from uuid import UUID

from sqlalchemy import Uuid, any_, cast, func, select, union_all
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.permissions import Actor
from app.models import Task, TaskStatus, User
from app.schemas.batch import AssignItem, BatchItem, ChangeItem, DeleteItem, StatusItem
from app.services.readiness import lock_with_waiting


async def lock_for(session: AsyncSession, actor: Actor, items: Sequence[BatchItem]) -> None:
    """Lock all that the items are about, as far as that can be told beforehand."""
    named = {item.id for item in items if isinstance(item, ChangeItem)}
    if not named:
        return
    starting = set(_led_to(items, TaskStatus.IN_PROGRESS))
    receivers = {item.body.user_id for item in items if isinstance(item, AssignItem)}
    if starting or receivers:
        await _lock_people(session, receivers | {actor.id}, holding=starting)
    ending = [*_led_to(items, TaskStatus.COMPLETED), *(item.id for item in items if isinstance(item, DeleteItem))]
    await lock_with_waiting(session, named, ending=ending)


def _led_to(items: Sequence[BatchItem], status: TaskStatus) -> Iterator[UUID]:
    return (item.id for item in items if isinstance(item, StatusItem) and item.body.status is status)


async def _lock_people(session: AsyncSession, user_ids: set[UUID], *, holding: set[UUID]) -> None:
    """Lock the users, and those who hold the tasks."""
    named = select(func.unnest(cast(list(user_ids), ARRAY(Uuid))))
    holders = select(Task.assignee_id).where(Task.id == any_(cast(list(holding), ARRAY(Uuid))))
    wanted = User.id == any_(func.array(union_all(named, holders).scalar_subquery()))
    await session.execute(select(User.id).where(wanted).order_by(User.id).with_for_update(read=True))
