from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    Uuid,
    any_,
    bindparam,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from app.core.errors import Conflict, NotFound
from app.core.permissions import SYSTEM, Actor, Permission, audience_of
from app.db.statements import keep
from app.db.transaction import Transaction
from app.events import outbox
from app.events.types import TaskAssigned, TaskLeaseExpired, TaskUnassigned
from app.models import Task, TaskStatus, UserTaskAssociation
from app.services.account_locks import lock_active_user
from app.services.preconditions import UNCONDITIONAL, Precondition, access_for_change
from app.services.readiness import require_unblocked
from app.services.workflow import TRANSITIONS


class UserNotFound(NotFound):
    code = "user_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such user.")


class AlreadyCompleted(Conflict):
    code = "already_completed"

    def __init__(self) -> None:
        super().__init__(
            "A completed task can't be assigned; reopen it first.", allowed=TRANSITIONS[TaskStatus.COMPLETED]
        )


class NotAssigned(Conflict):
    code = "not_assigned"

    def __init__(self, current: TaskStatus) -> None:
        super().__init__(f"Nobody is working on this task; it is {current}.", current=current)


_END_HOLD = keep(
    update(UserTaskAssociation)
    .where(UserTaskAssociation.task_id == bindparam("held_task_id"), UserTaskAssociation.released_at.is_(None))
    .values(released_at=func.now())
)
_END_HOLDS = keep(
    update(UserTaskAssociation)
    .where(UserTaskAssociation.task_id == any_(bindparam("held_task_ids", type_=ARRAY(Uuid()))))
    .where(UserTaskAssociation.released_at.is_(None))
    .values(released_at=func.now())
)


class AssignmentService:
    """Assigning, handing over and giving back tasks. Besides `ClaimService` nobody else changes the holder.

    The next holder of a task is locked before the task, so that their account can't end in between, and so that all
    who need both locks take them in the same order.
    """

    def __init__(self, transaction: Transaction, precondition: Precondition = UNCONDITIONAL) -> None:
        self._transaction = transaction
        self._precondition = precondition

    async def assign(self, actor: Actor, task_id: UUID, user_id: UUID) -> Task:
        """Assign the task to a user, in place of its holder; again to the same one changes nothing."""
        is_active = await lock_active_user(self._transaction, user_id)
        task = await self._access(actor, task_id, Permission.TASK_ASSIGN)
        if not is_active:
            raise UserNotFound
        if task.status is TaskStatus.COMPLETED:
            raise AlreadyCompleted
        if task.assignee_id == user_id:
            return task
        if task.status is not TaskStatus.IN_PROGRESS:
            await require_unblocked(self._transaction, actor, task_id)
        event = TaskAssigned(
            assignee_id=user_id,
            previous_assignee_id=task.assignee_id,
            old_status=task.status,
            new_status=TaskStatus.IN_PROGRESS,
        )
        await self.end_hold(task)
        task.assignee_id, task.status = user_id, TaskStatus.IN_PROGRESS
        task.version += 1
        self.begin_hold(task, user_id, by=actor)
        await outbox.record(self._transaction, event, actor=actor, task=task, audience=audience_of(task))
        return task

    async def unassign(self, actor: Actor, task_id: UUID) -> Task:
        """Take the task back from its holder; it's available again."""
        task = await self._access(actor, task_id, Permission.TASK_UNASSIGN)
        if task.status is not TaskStatus.IN_PROGRESS:
            raise NotAssigned(task.status)
        await self._release(actor, task)
        return task

    async def end_hold(self, task: Task) -> None:
        """Write down that the time of holding the task is over, before anything else of it is changed."""
        await self._transaction.execute(_END_HOLD, {"held_task_id": task.id})
        task.lease_expires_at, task.lease_seconds = None, None

    def begin_hold(self, task: Task, user_id: UUID, *, by: Actor) -> None:
        """Write down that one begins."""
        task.lease_token += 1
        self._transaction.add(UserTaskAssociation(task_id=task.id, user_id=user_id, assigned_by=by.id))

    async def release_some(self, actor: Actor, *, held_by: Collection[UUID], until: datetime, most: int) -> bool:
        """Give back some of the tasks that these accounts work on; whether there may be more of them.

        A time of holding that began after `until` goes on.
        """
        is_later = UserTaskAssociation.released_at.is_(None) & (UserTaskAssociation.assigned_at > until)
        later = select(UserTaskAssociation.id).where(UserTaskAssociation.task_id == Task.id, is_later).exists()
        held = select(Task).where(Task.assignee_id.in_(held_by), Task.status == TaskStatus.IN_PROGRESS, ~later)
        some = held.with_only_columns(Task.id).order_by(Task.id).limit(most)
        ids = list(await self._transaction.scalars(some))
        # What somebody else has given back meanwhile is no longer found when it's locked, and would be missing in the
        # count of those that there are.
        locked = held.where(Task.id.in_(ids)).order_by(Task.id).with_for_update()
        tasks = list(await self._transaction.scalars(locked))
        await self._transaction.execute(_END_HOLDS, {"held_task_ids": [task.id for task in tasks]})
        events = []
        for task in tasks:
            event = _given_back(task)
            _make_available(task)
            events.append((event, task))
        await outbox.record_each(self._transaction, events, actor=actor)
        return len(ids) == most

    async def end_lease(self, task: Task) -> None:
        """The task, locked by now, is available again, for its holder has not renewed in time."""
        assert task.assignee_id is not None
        event = TaskLeaseExpired(
            previous_assignee_id=task.assignee_id, old_status=task.status, new_status=TaskStatus.AVAILABLE
        )
        await self.end_hold(task)
        _make_available(task)
        await outbox.record(self._transaction, event, actor=SYSTEM, task=task, audience=audience_of(task))

    async def _release(self, actor: Actor, task: Task) -> None:
        event = _given_back(task)
        await self.end_hold(task)
        _make_available(task)
        await outbox.record(self._transaction, event, actor=actor, task=task, audience=audience_of(task))

    async def _access(self, actor: Actor, task_id: UUID, permission: Permission) -> Task:
        return await access_for_change(self._transaction, actor, task_id, permission, self._precondition)


def _given_back(task: Task) -> TaskUnassigned:
    """The event of a task that is about to be given back."""
    assert task.assignee_id is not None
    return TaskUnassigned(
        previous_assignee_id=task.assignee_id, old_status=task.status, new_status=TaskStatus.AVAILABLE
    )


def _make_available(task: Task) -> None:
    task.lease_expires_at, task.lease_seconds = None, None
    task.assignee_id, task.status = None, TaskStatus.AVAILABLE
    task.version += 1
