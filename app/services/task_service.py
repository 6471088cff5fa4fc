from uuid import UUID

from sqlalchemy import func, select
from uuid_utils.compat import uuid7

from app.core.errors import ServiceUnavailable
from app.core.permissions import (
    Actor,
    Permission,
    access_task,
    audience_of,
    select_visible_events,
)
from app.events import outbox
from app.events.types import TaskCreated, TaskDeleted, TaskStatusChanged, TaskUpdated
from app.models import Event, Task, TaskStatus
from app.schemas.fields import PageQuery
from app.schemas.task import TaskCreate, TaskUpdate
from app.services.assignment_service import AssignmentService
from app.services.pages import Order, Page, Pager, scope_of
from app.services.preconditions import UNCONDITIONAL, Precondition, access_for_change
from app.services.readiness import WaitingTasks, require_unblocked
from app.services.workflow import require_transition
from app.session import Session
from app.statements import keep

EDITABLE = frozenset({"title", "description", "category", "priority", "impact_points", "due_at"})


_NOW = keep(select(func.now()))


class ChangedMeanwhile(ServiceUnavailable):
    def __init__(self) -> None:
        super().__init__("Somebody changed the task at the same time; try again.", code="try_again")


class TaskService:
    """Tasks: making and editing them, and their steps through the workflow. They are read by `TaskReads`."""

    def __init__(self, session: Session, precondition: Precondition = UNCONDITIONAL) -> None:
        self._session = session
        self._precondition = precondition

    async def create(self, actor: Actor, new: TaskCreate) -> Task:
        task = Task(id=uuid7(), version=1, owner_id=actor.id, **new.model_dump())
        self._session.add(task)
        event = TaskCreated(owner_id=actor.id, **new.model_dump())
        await outbox.record(self._session, event, actor=actor, task=task, audience=audience_of(task))
        return task

    async def update(self, actor: Actor, task_id: UUID, changes: TaskUpdate) -> Task:
        """Change what is given and differs; when nothing does, nothing is written and no event told."""
        task = await self._access(actor, task_id, Permission.TASK_EDIT)
        changed = {
            field: getattr(changes, field)
            for field in sorted(changes.model_fields_set & EDITABLE)
            if getattr(changes, field) != getattr(task, field)
        }
        if not changed:
            return task
        for field, value in changed.items():
            setattr(task, field, value)
        task.version += 1
        event = TaskUpdated(changed=changes.model_dump(mode="json", include=set(changed)))
        await outbox.record(self._session, event, actor=actor, task=task, audience=audience_of(task))
        return task

    async def delete(self, actor: Actor, task_id: UUID) -> None:
        """The row goes, its events stay. The event of the deletion has the version after the last one."""
        waiting = await WaitingTasks.lock(self._session, task_id)
        task = await self._access(actor, task_id, Permission.TASK_DELETE)
        task.version += 1
        event = TaskDeleted(title=task.title)
        await outbox.record(self._session, event, actor=actor, task=task, audience=audience_of(task))
        await waiting.tell_of_deletion(actor, task)
        await self._session.delete(task)

    async def change_status(self, actor: Actor, task_id: UUID, wanted: TaskStatus) -> Task:
        """One step by the table. Who starts a task holds it; who gives it back no longer does."""
        assignments = AssignmentService(self._session)
        # Seen first without a lock, for whoever is to hold the task is locked before the task.
        seen = await access_task(self._session, actor, task_id, Permission.TASK_VIEW)
        previous = seen.assignee_id
        holder = await assignments.lock_holder_after(actor, previous, wanted)
        waiting = await WaitingTasks.lock(self._session, task_id) if wanted is TaskStatus.COMPLETED else None
        task = await self._access(actor, task_id, Permission.TASK_CHANGE_STATUS)
        old = task.status
        require_transition(old, wanted)
        if task.assignee_id != previous:
            raise ChangedMeanwhile
        if (old, wanted) == (TaskStatus.AVAILABLE, TaskStatus.IN_PROGRESS):
            await require_unblocked(self._session, actor, task_id)
        completed_at = await self._session.scalar(_NOW) if wanted is TaskStatus.COMPLETED else None
        if old is TaskStatus.IN_PROGRESS:
            await assignments.end_hold(task)
        task.status, task.assignee_id, task.completed_at = wanted, holder, completed_at
        task.version += 1
        if wanted is TaskStatus.IN_PROGRESS:
            assert holder is not None
            assignments.begin_hold(task, holder, by=actor)
        event = TaskStatusChanged(
            old_status=old,
            new_status=wanted,
            assignee_id=holder,
            previous_assignee_id=previous,
            completed_at=completed_at,
        )
        # One side of each step is public, and those who saw the task must learn that it was withdrawn.
        await outbox.record(self._session, event, actor=actor, task=task, audience=None)
        if waiting:
            await waiting.tell_of_completion(actor, task)
        return task

    async def history(self, actor: Actor, task_id: UUID, query: PageQuery, pager: Pager) -> Page[Event]:
        """The task's events that the actor may read, newest first."""
        await access_task(self._session, actor, task_id, Permission.TASK_VIEW)
        statement = select_visible_events(actor).where(Event.task_id == task_id)
        order = Order(key=Event.task_version, id=Event.id, descending=True)
        return await pager.fetch(statement, order, query, scope=scope_of("history", actor=actor.id, task=task_id))

    async def _access(self, actor: Actor, task_id: UUID, permission: Permission) -> Task:
        return await access_for_change(self._session, actor, task_id, permission, self._precondition)
