from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Interval, bindparam, func, select

from app.core.errors import Conflict
from app.core.permissions import Actor, Permission, access_task
from app.db.statements import keep
from app.db.transaction import Transaction
from app.models import Task, TaskStatus
from app.services.assignment_service import AssignmentService
from app.services.claim_service import ask_for_expiry
from app.services.preconditions import UNCONDITIONAL, LeaseLost, Precondition, has_run_out

_END = keep(select(func.clock_timestamp() + bindparam("lease", type_=Interval())))


class NoLease(Conflict):
    code = "no_lease"

    def __init__(self) -> None:
        super().__init__("You hold this task without an end; say lease_seconds to give it one.")


class LeaseService:
    """Holding a task for a time: for longer, and what becomes of it when the time is over."""

    def __init__(self, transaction: Transaction, precondition: Precondition = UNCONDITIONAL) -> None:
        self._transaction = transaction
        self._precondition = precondition

    async def renew(self, actor: Actor, task_id: UUID, *, lease_seconds: int | None) -> Task:
        """Hold the task for longer: for `lease_seconds` from now on, or as long as it was held for before.

        Raises:
            LeaseLost: the actor doesn't hold it, or lost it.
            NoLease: they hold it without an end, and say none.
        """
        task = await access_task(self._transaction, actor, task_id, Permission.TASK_VIEW, lock=True)
        await self._precondition.require_lease(self._transaction, task, actor)
        is_held = task.status is TaskStatus.IN_PROGRESS and task.assignee_id == actor.id
        if not is_held or await has_run_out(self._transaction, task):
            raise LeaseLost
        seconds = lease_seconds or task.lease_seconds
        if seconds is None:
            raise NoLease
        earlier_end = task.lease_expires_at
        end = await self._transaction.scalar(_END, {"lease": timedelta(seconds=seconds)})
        task.lease_seconds, task.lease_expires_at = seconds, end
        # The job of a later end goes on waiting until then, and finds nothing to do.
        if earlier_end is None or task.lease_expires_at is None or task.lease_expires_at < earlier_end:
            ask_for_expiry(self._transaction, task)
        await self._transaction.flush()
        return task

    async def expire(self, task_id: UUID, *, token: int) -> datetime | None:
        """Make the task available if the lease of this token has run out. If it was renewed, until when it holds."""
        locked = select(Task).where(Task.id == task_id).with_for_update()
        task: Task | None = await self._transaction.scalar(locked)
        if task is None or task.lease_token != token or task.lease_expires_at is None:
            return None
        if not await has_run_out(self._transaction, task):
            return task.lease_expires_at
        await AssignmentService(self._transaction).end_lease(task)
        return None
