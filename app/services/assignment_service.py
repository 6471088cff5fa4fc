from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import Conflict, NotFound
from app.core.permissions import Actor, Permission, access_task, select_visible_tasks
from app.events import outbox
from app.events.types import TaskAssigned, TaskUnassigned
from app.models import Task, TaskStatus, User, UserTaskAssociation
from app.services.preconditions import UNCONDITIONAL, Precondition, access_for_change
from app.services.workflow import TRANSITIONS


class UserNotFound(NotFound):
    code = "user_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such user.")


class AlreadyClaimed(Conflict):
    code = "already_claimed"

    def __init__(self, holder: UUID | None) -> None:
        super().__init__("Somebody else holds this task.", holder=holder)


class NotAvailable(Conflict):
    code = "not_available"

    def __init__(self, current: TaskStatus) -> None:
        super().__init__(
            f"Only an available task can be claimed; this one is {current}.",
            current=current,
            allowed=TRANSITIONS[current],
        )


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


class AssignmentService:
    """Who holds a task: assigning, handing over, claiming, giving back. Nobody else changes the holder.

    Whoever is to hold a task is locked before the task, so that their account can't end in between, and so that all
    who need both locks take them in the same order.
    """

    def __init__(self, session: AsyncSession, precondition: Precondition = UNCONDITIONAL) -> None:
        self._session = session
        self._precondition = precondition

    async def assign(self, actor: Actor, task_id: UUID, user_id: UUID) -> Task:
        """Give the task to a user, from whoever held it; again to the same one changes nothing."""
        is_active = await self._lock_active_user(user_id)
        task = await self._access(actor, task_id, Permission.TASK_ASSIGN)
        if not is_active:
            raise UserNotFound
        if task.status is TaskStatus.COMPLETED:
            raise AlreadyCompleted
        if task.assignee_id == user_id:
            return task
        event = TaskAssigned(
            assignee_id=user_id,
            previous_assignee_id=task.assignee_id,
            old_status=task.status,
            new_status=TaskStatus.IN_PROGRESS,
        )
        task.assignee_id, task.status = user_id, TaskStatus.IN_PROGRESS
        task.version += 1
        await self._end_hold(task.id)
        self._begin_hold(task.id, user_id, by=actor)
        await outbox.record(self._session, event, actor=actor, task=task, audience=None)
        return task

    async def unassign(self, actor: Actor, task_id: UUID) -> Task:
        """Take the task back from its holder; it's available again."""
        task = await self._access(actor, task_id, Permission.TASK_UNASSIGN)
        if task.status is not TaskStatus.IN_PROGRESS:
            raise NotAssigned(task.status)
        await self._release(actor, task)
        return task

    async def claim(self, actor: Actor, task_id: UUID) -> Task:
        """Take an available task for oneself. Of any number at once one wins; who holds it already keeps it.

        Raises:
            AlreadyClaimed: somebody else holds it.
            NotAvailable: it's a draft, or completed.
        """
        if not await self._lock_active_user(actor.id):
            raise UserNotFound
        task: Task | None = await self._session.scalar(
            update(Task)
            .where(Task.id.in_(select_visible_tasks(actor).with_only_columns(Task.id).where(Task.id == task_id)))
            .where(Task.status == TaskStatus.AVAILABLE, self._precondition.as_sql())
            .values(status=TaskStatus.IN_PROGRESS, assignee_id=actor.id, version=Task.version + 1)
            .returning(Task)
        )
        if task is None:
            return await self._why_not_claimed(actor, task_id)
        event = TaskAssigned(
            assignee_id=actor.id,
            previous_assignee_id=None,
            old_status=TaskStatus.AVAILABLE,
            new_status=TaskStatus.IN_PROGRESS,
        )
        self._begin_hold(task.id, actor.id, by=actor)
        await outbox.record(self._session, event, actor=actor, task=task, audience=None)
        return task

    async def lock_holder_after(self, actor: Actor, holder: UUID | None, wanted: TaskStatus) -> UUID | None:
        """Who holds a task that `holder` has now once it has become `wanted`; locked if they are to work on it.

        Starting it takes it, giving it back leaves it, and a completed one keeps its holder's name. Reopened, it's
        theirs again, or the actor's if that account has ended.

        Raises:
            UserNotFound: the actor's own account has ended meanwhile.
        """
        if wanted is not TaskStatus.IN_PROGRESS:
            return holder if wanted is TaskStatus.COMPLETED else None
        if holder is not None and await self._lock_active_user(holder):
            return holder
        if not await self._lock_active_user(actor.id):
            raise UserNotFound
        return actor.id

    async def record_hold(self, actor: Actor, task: Task, *, was: TaskStatus) -> None:
        """Write down that the time of holding the task began or ended with its step from `was`."""
        if was is TaskStatus.IN_PROGRESS:
            await self._end_hold(task.id)
        if task.status is TaskStatus.IN_PROGRESS and task.assignee_id is not None:
            self._begin_hold(task.id, task.assignee_id, by=actor)

    async def release_all(self, actor: Actor) -> None:
        """Give back every task that the actor is working on."""
        held = select(Task).where(Task.assignee_id == actor.id, Task.status == TaskStatus.IN_PROGRESS)
        for task in await self._session.scalars(held.order_by(Task.id).with_for_update()):
            await self._release(actor, task)

    async def _release(self, actor: Actor, task: Task) -> None:
        assert task.assignee_id is not None
        event = TaskUnassigned(
            previous_assignee_id=task.assignee_id, old_status=task.status, new_status=TaskStatus.AVAILABLE
        )
        task.assignee_id, task.status = None, TaskStatus.AVAILABLE
        task.version += 1
        await self._end_hold(task.id)
        await outbox.record(self._session, event, actor=actor, task=task, audience=None)

    async def _why_not_claimed(self, actor: Actor, task_id: UUID) -> Task:
        task = await access_task(self._session, actor, task_id, Permission.TASK_CLAIM)
        self._precondition.require_of_task(task)
        if task.status is TaskStatus.AVAILABLE:
            # Given back since the attempt, so it's to be had again.
            return await self.claim(actor, task_id)
        if task.status is not TaskStatus.IN_PROGRESS:
            raise NotAvailable(task.status)
        if task.assignee_id != actor.id:
            raise AlreadyClaimed(task.assignee_id)
        return task

    async def _lock_active_user(self, user_id: UUID) -> bool:
        active = select(User.id).where(User.id == user_id, User.is_active).with_for_update(read=True)
        return await self._session.scalar(active) is not None

    def _begin_hold(self, task_id: UUID, user_id: UUID, *, by: Actor) -> None:
        self._session.add(UserTaskAssociation(task_id=task_id, user_id=user_id, assigned_by=by.id))

    async def _end_hold(self, task_id: UUID) -> None:
        open_hold = UserTaskAssociation.released_at.is_(None)
        await self._session.execute(
            update(UserTaskAssociation)
            .where(UserTaskAssociation.task_id == task_id, open_hold)
            .values(released_at=func.now())
        )

    async def _access(self, actor: Actor, task_id: UUID, permission: Permission) -> Task:
        return await access_for_change(self._session, actor, task_id, permission, self._precondition)
