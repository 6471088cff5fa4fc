from functools import cache
from uuid import UUID

from pydantic import MISSING
from sqlalchemy import bindparam
from uuid_utils.compat import uuid7

from app.core.permissions import (
    SYSTEM,
    Actor,
    Permission,
    Visibility,
    access_task,
    audience_of,
    either_of,
    require_permission,
    select_visible_events,
)
from app.db.transaction import Transaction
from app.events import outbox
from app.events.sizes import size_of
from app.events.types import TaskCreated, TaskDeleted, TaskUpdated
from app.models import Event, Task, TaskStatus
from app.schemas.fields import PageQuery
from app.schemas.task import TaskCreate, TaskUpdate
from app.services.account_locks import lock_active_users
from app.services.assignment_service import UserNotFound
from app.services.due_times import settle_due
from app.services.impact_score import keep_points_of
from app.services.pages import Listing, Order, Page, Pager, scope_of
from app.services.preconditions import UNCONDITIONAL, Precondition, access_for_change
from app.services.readiness import WaitingTasks
from app.services.workflow_steps import WorkflowSteps

# Not by versions, which not each event of a task has. Those of changes are in this order too.
NEWEST_FIRST = Order(key=Event.position, id=Event.id, descending=True)
EDITABLE = {"title", "description", "category", "priority", "impact_points", "due_at", "owner_id"}


class TaskService:
    """Tasks: making and editing them, and their steps through the workflow. They are read by `TaskReads`."""

    def __init__(self, transaction: Transaction, precondition: Precondition = UNCONDITIONAL) -> None:
        self._transaction = transaction
        self._precondition = precondition

    async def create(self, actor: Actor, new: TaskCreate) -> Task:
        new = await settle_due(self._transaction, actor, new)
        task = Task(id=uuid7(), version=1, owner_id=actor.id, **new.model_dump())
        self._transaction.add(task)
        event = TaskCreated(owner_id=actor.id, **new.model_dump())
        await outbox.record(self._transaction, event, actor=actor, task=task, audience=audience_of(task))
        return task

    async def update(self, actor: Actor, task_id: UUID, changes: TaskUpdate) -> Task:
        """Change what is given and differs; when nothing does, nothing is written and no event told.

        Another `status` is a step of its own, with its own version and event. All of it happens, or nothing.

        Raises:
            UserNotFound: the account that is to own the task is unknown, or has ended.
        """
        owners = set() if changes.owner_id is MISSING else {changes.owner_id}
        if changes.status is MISSING:
            active = await lock_active_users(self._transaction, owners)
            task = await self._access(actor, task_id, Permission.TASK_EDIT)
            await self._edit(actor, task, changes, is_owner_active=owners <= active)
            return task
        steps = WorkflowSteps(self._transaction)
        step = await steps.prepare(actor, task_id, changes.status, besides=owners)
        is_active = owners <= step.active
        task = await self._access(actor, task_id, Permission.TASK_CHANGE_STATUS)
        if changes.model_fields_set != {"status"}:
            require_permission(actor, task, Permission.TASK_EDIT)
        is_step = task.status is not step.wanted
        # What is edited together with a withdrawal is no longer for everybody to read.
        is_withdrawn = is_step and step.wanted is TaskStatus.DRAFT
        if is_withdrawn:
            await steps.take(actor, task, step)
        await self._edit(actor, task, changes, is_owner_active=is_active)
        if is_step and not is_withdrawn:
            await steps.take(actor, task, step)
        return task

    async def _edit(self, actor: Actor, task: Task, changes: TaskUpdate, *, is_owner_active: bool) -> None:
        changes = await settle_due(self._transaction, actor, changes)
        given = changes.model_dump(include=EDITABLE)
        changed = {field: value for field, value in given.items() if value != getattr(task, field)}
        if not changed:
            return
        if "owner_id" in changed and not is_owner_active:
            raise UserNotFound
        before = audience_of(task)
        for field, value in changed.items():
            setattr(task, field, value)
        task.version += 1
        event = TaskUpdated(changed=changes.model_dump(mode="json", include=set(changed)))
        audience = either_of(before, audience_of(task))
        await outbox.record(self._transaction, event, actor=actor, task=task, audience=audience)

    async def delete(self, actor: Actor, task_id: UUID) -> None:
        """Delete the task. Its events stay, and so do the points of a completed one, with who earned them.

        The event of the deletion has the version after the last one.
        """
        waiting = await WaitingTasks.lock(self._transaction, task_id)
        task = await self._access(actor, task_id, Permission.TASK_DELETE)
        task.version += 1
        event = TaskDeleted(title=task.title)
        await outbox.record(self._transaction, event, actor=actor, task=task, audience=audience_of(task))
        await waiting.tell_of_deletion(actor, task)
        keep_points_of(self._transaction, task)
        await self._transaction.delete(task)

    async def change_status(self, actor: Actor, task_id: UUID, wanted: TaskStatus) -> Task:
        """Take one step by the table. Starting a task makes the actor its holder; giving it back ends that."""
        steps = WorkflowSteps(self._transaction)
        step = await steps.prepare(actor, task_id, wanted)
        task = await self._access(actor, task_id, Permission.TASK_CHANGE_STATUS)
        await steps.take(actor, task, step)
        return task

    async def history(self, actor: Actor, task_id: UUID, query: PageQuery, pager: Pager) -> Page[Event]:
        """The task's events that the actor may read, newest first."""
        await access_task(self._transaction, actor, task_id, Permission.TASK_VIEW)
        given = {"task_id": task_id, **actor.visibility.statement_values}
        scope = scope_of("history by position", actor=actor.id, task=task_id)
        return await pager.fetch(_history(actor.visibility.statement_key), given, query, scope=scope)

    async def _access(self, actor: Actor, task_id: UUID, permission: Permission) -> Task:
        return await access_for_change(self._transaction, actor, task_id, permission, self._precondition)


@cache
def _history(visibility: Visibility) -> Listing[Event]:
    # One without any value can't be in a statement that has an IN, as that for admins has.
    events = select_visible_events(visibility).where(Event.task_id == bindparam("task_id", SYSTEM.id))
    return Listing(events, NEWEST_FIRST, size_of(Event.data))
