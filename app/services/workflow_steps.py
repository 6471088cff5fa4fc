"""A step of a task through the workflow: what is locked before it, and what becomes of holder and waiting tasks."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select

from app.core.errors import ServiceUnavailable
from app.core.permissions import Actor, Permission, access_task, audience_of, either_of
from app.db.statements import keep
from app.db.transaction import Transaction
from app.events import outbox
from app.events.types import TaskStatusChanged
from app.models import Task, TaskStatus
from app.services.account_locks import lock_active_users
from app.services.assignment_service import AssignmentService, UserNotFound
from app.services.readiness import WaitingTasks, require_unblocked
from app.services.workflow import require_transition

_NOW = keep(select(func.now()))


class ChangedMeanwhile(ServiceUnavailable):
    def __init__(self) -> None:
        super().__init__("Somebody changed the task at the same time; try again.", code="try_again")


@dataclass(frozen=True, slots=True)
class Step:
    """A step to `wanted`, with everything locked that has to be locked before the task."""

    wanted: TaskStatus
    previous: UUID | None
    holder: UUID | None
    waiting: WaitingTasks | None
    # Of the accounts that were locked, those that have not ended.
    active: AbstractSet[UUID]


class WorkflowSteps:
    """Takes tasks from one status to the next."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._assignments = AssignmentService(transaction)

    async def prepare(
        self, actor: Actor, task_id: UUID, wanted: TaskStatus, *, besides: AbstractSet[UUID] = frozenset()
    ) -> Step:
        """Lock who is to hold the task, those accounts besides, and the tasks that wait for it.

        The caller locks the task afterwards.

        Raises:
            TaskNotFound: there is none, or none that the actor may know of.
            UserNotFound: the actor is to hold it, and their account has ended meanwhile.
        """
        # Seen first without a lock, for the next holder is locked before the task.
        seen = await access_task(self._transaction, actor, task_id, Permission.TASK_VIEW)
        previous = seen.assignee_id
        workers = {previous or actor.id, actor.id} if wanted is TaskStatus.IN_PROGRESS else frozenset()
        active = await lock_active_users(self._transaction, besides | workers)
        holder = _holder_after(actor, previous, wanted, active)
        waiting = await WaitingTasks.lock(self._transaction, task_id) if wanted is TaskStatus.COMPLETED else None
        return Step(wanted, previous, holder, waiting, active)

    async def take(self, actor: Actor, task: Task, step: Step) -> None:
        """Take the step. The actor may do so, and the task is locked.

        Raises:
            InvalidTransition: the table of steps doesn't have it.
            Blocked: the task waits for others.
            ChangedMeanwhile: somebody else holds the task than when the step was prepared.
        """
        old, before = task.status, audience_of(task)
        require_transition(old, step.wanted)
        if task.assignee_id != step.previous:
            raise ChangedMeanwhile
        if (old, step.wanted) == (TaskStatus.AVAILABLE, TaskStatus.IN_PROGRESS):
            await require_unblocked(self._transaction, actor, task.id)
        await self._change(actor, task, step)
        event = TaskStatusChanged(
            old_status=old,
            new_status=step.wanted,
            assignee_id=step.holder,
            previous_assignee_id=step.previous,
            completed_at=task.completed_at,
        )
        audience = either_of(before, audience_of(task))
        await outbox.record(self._transaction, event, actor=actor, task=task, audience=audience)
        if step.waiting:
            await step.waiting.tell_of_completion(actor, task)

    async def _change(self, actor: Actor, task: Task, step: Step) -> None:
        completed_at = await self._transaction.scalar(_NOW) if step.wanted is TaskStatus.COMPLETED else None
        if task.status is TaskStatus.IN_PROGRESS:
            await self._assignments.end_hold(task)
        task.status, task.assignee_id, task.completed_at = step.wanted, step.holder, completed_at
        task.version += 1
        if step.wanted is TaskStatus.IN_PROGRESS:
            assert step.holder is not None
            self._assignments.begin_hold(task, step.holder, by=actor)


def _holder_after(actor: Actor, holder: UUID | None, wanted: TaskStatus, active: AbstractSet[UUID]) -> UUID | None:
    """Return the holder of a task of `holder` once its status is `wanted`.

    Starting it takes it, giving it back leaves it, and a completed one keeps its holder's name. Reopened, it's theirs
    again, or the actor's if that account has ended.
    """
    if wanted is not TaskStatus.IN_PROGRESS:
        return holder if wanted is TaskStatus.COMPLETED else None
    if holder in active:
        return holder
    if actor.id not in active:
        raise UserNotFound
    return actor.id
