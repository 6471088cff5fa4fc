from collections.abc import Hashable
from datetime import timedelta
from functools import cache
from uuid import UUID

from cachetools import LRUCache, cached
from pydantic import JsonValue
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Interval,
    Select,
    and_,
    any_,
    bindparam,
    func,
    literal_column,
    or_,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.dml import ReturningUpdate

from app.core.errors import Conflict, ServiceUnavailable
from app.core.permissions import Actor, Permission, Visibility, access_task, audience_of, select_visible_tasks
from app.db.statements import keep, whole
from app.db.transaction import Transaction
from app.events import outbox
from app.events.jobs import ask_for_job
from app.events.types import TaskAssigned
from app.models import JobName, Task, TaskStatus, UserTaskAssociation, is_blocked
from app.schemas.task import TaskClaimNext, TaskFilter
from app.services.account_locks import lock_active_user
from app.services.assignment_service import AssignmentService, UserNotFound
from app.services.preconditions import UNCONDITIONAL, Precondition, has_run_out
from app.services.readiness import require_unblocked
from app.services.task_filter import (
    RAREST,
    count_up_to,
    filter_tasks,
    filter_values,
    has_rarest_word,
    kinds_of_filters,
    rare_searches,
)
from app.services.workflow import TRANSITIONS


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


# What was chosen may have to wait for another task by now, though hardly time after time.
CHOICES = 5
# Words are rare if so many tasks at most have them. Of those that more have, the first is soon found.
FEW = 2_000
# More ways to ask for the next task than anybody has; past that the one that was used least recently is made anew.
MOST_WAYS = 100
# By urgency, then by due time (those without one last), then by age, as the index has it.
CLAIM_ORDER = (Task.priority_rank, Task.due_at, Task.created_at, Task.id)


def has_expired_lease() -> ColumnElement[bool]:
    return and_(Task.status == TaskStatus.IN_PROGRESS, Task.lease_expires_at <= func.clock_timestamp())


def _way_to_choose(visibility: Visibility, filters: TaskFilter, *, is_rare: bool) -> Hashable:
    return visibility, kinds_of_filters(filters), is_rare


@cached(LRUCache(MOST_WAYS), key=_way_to_choose)
def _choices(visibility: Visibility, filters: TaskFilter, *, is_rare: bool) -> tuple[Select[Task], Select[Task]]:
    """What finds the first available task, and the first one whose lease has run out."""
    rare = has_rarest_word() if is_rare else None
    ready = filter_tasks(select_visible_tasks(visibility), filters, visibility, rare=rare).where(~is_blocked())
    found = ready.order_by(*CLAIM_ORDER).limit(literal_column("1")).with_for_update(skip_locked=True)
    return keep(found.where(Task.status == TaskStatus.AVAILABLE)), keep(found.where(has_expired_lease()))


@cache
def _take_as(visibility: Visibility) -> ReturningUpdate[Task]:
    versions = bindparam("versions", type_=ARRAY(BigInteger()))
    # With its version, for a change since the statement began may have made it wait for others:
    # PostgreSQL looks again at the row that it waited for, and not at the rows of its blockers.
    seen = (
        select_visible_tasks(visibility)
        .with_only_columns(Task.id, Task.version)
        .where(Task.id == bindparam("claimed_id"), or_(versions.is_(None), Task.version == any_(versions)))
    )
    one: ColumnElement[int] = literal_column("1")
    return keep(
        update(Task)
        .where(tuple_(Task.id, Task.version).in_(seen))
        .where(Task.status == TaskStatus.AVAILABLE, ~is_blocked())
        .values(
            status=TaskStatus.IN_PROGRESS,
            assignee_id=bindparam("claimer_id"),
            version=Task.version + one,
            lease_token=Task.lease_token + one,
            lease_expires_at=func.clock_timestamp() + bindparam("lease", type_=Interval()),
            lease_seconds=bindparam("seconds"),
        )
        .returning(*whole(Task))
    )


def ask_for_expiry(transaction: Transaction, task: Task) -> None:
    """Ask for a job that looks at the lease when it ends. One for each time of holding: after a renewal it waits."""
    arguments: dict[str, JsonValue] = {"task_id": str(task.id), "token": task.lease_token}
    ask_for_job(transaction, JobName.EXPIRE_LEASE, run_after=task.lease_expires_at, **arguments)


class ClaimService:
    """Taking tasks for oneself, for people and programs alike."""

    def __init__(self, transaction: Transaction, precondition: Precondition = UNCONDITIONAL) -> None:
        self._transaction = transaction
        self._precondition = precondition

    async def claim(self, actor: Actor, task_id: UUID, *, lease_seconds: int | None = None) -> Task:
        """Take an available task for oneself. Of any number at once one wins; who holds it already keeps it as it is.

        Raises:
            AlreadyClaimed: somebody else holds it.
            NotAvailable: it's a draft, or completed.
            Blocked: it waits for others.
            LeaseLost: they take it for one that they hold already.
        """
        if not await lock_active_user(self._transaction, actor.id):
            raise UserNotFound
        task = None
        # Who names what they hold it by goes on with work that they have begun, and must not take it anew.
        if self._precondition.lease_token is None:
            task = await self._take(actor, task_id, lease_seconds, precondition=self._precondition)
        return task or await self._why_not_claimed(actor, task_id, lease_seconds)

    async def claim_next(self, actor: Actor, wanted: TaskClaimNext) -> Task | None:
        """Take the first task that is to be had: by priority, then due time, then age; None if there is none.

        Tasks that others are about to take are passed over, so that claimers don't wait for one another.
        """
        if not await lock_active_user(self._transaction, actor.id):
            raise UserNotFound
        filters = TaskFilter(category=wanted.category, priority=wanted.priority, q=wanted.q)
        rarest = await self._rare_search(wanted.q) if wanted.q is not None else None
        first, overdue = _choices(actor.visibility.statement_key, filters, is_rare=rarest is not None)
        given = {**actor.visibility.statement_values, RAREST: rarest, **filter_values(filters)}
        for _ in range(CHOICES):
            task = await self._transaction.scalar(first, given) or await self._transaction.scalar(overdue, given)
            if task is None:
                return None
            if task.status is TaskStatus.IN_PROGRESS:
                await AssignmentService(self._transaction).end_lease(task)
            if taken := await self._take(actor, task.id, wanted.lease_seconds):
                return taken
        return None

    async def _rare_search(self, q: str) -> str | None:
        """A part of the search that few tasks pass, if there is one."""
        for rarest in rare_searches(q):
            [count] = await self._transaction.scalars(count_up_to(FEW), {RAREST: rarest})
            if count <= FEW:
                return rarest
        return None

    async def _take(
        self, actor: Actor, task_id: UUID, lease_seconds: int | None, *, precondition: Precondition = UNCONDITIONAL
    ) -> Task | None:
        """Claim the task in one statement, if it is visible, available, and as it's taken to be."""
        given = {
            "claimed_id": task_id,
            **actor.visibility.statement_values,
            "versions": None if precondition.versions is None else sorted(precondition.versions),
            "claimer_id": actor.id,
            "lease": None if lease_seconds is None else timedelta(seconds=lease_seconds),
            "seconds": lease_seconds,
        }
        task: Task | None = await self._transaction.scalar(_take_as(actor.visibility.statement_key), given)
        if task is None:
            return None
        event = TaskAssigned(
            assignee_id=actor.id,
            previous_assignee_id=None,
            old_status=TaskStatus.AVAILABLE,
            new_status=TaskStatus.IN_PROGRESS,
        )
        self._transaction.add(UserTaskAssociation(task_id=task.id, user_id=actor.id, assigned_by=actor.id))
        await outbox.record(self._transaction, event, actor=actor, task=task, audience=audience_of(task))
        if lease_seconds is not None:
            ask_for_expiry(self._transaction, task)
        return task

    async def _take_locked(self, actor: Actor, task: Task, lease_seconds: int | None) -> Task:
        taken = await self._take(actor, task.id, lease_seconds)
        if taken is None:
            await require_unblocked(self._transaction, actor, task.id)
            # What it waited for was done just now.
            raise ServiceUnavailable("What the task waits for has changed; try again.", code="try_again")
        return taken

    async def _why_not_claimed(self, actor: Actor, task_id: UUID, lease_seconds: int | None) -> Task:
        # Locked, so that what is said of it is still so when it's done.
        task = await access_task(self._transaction, actor, task_id, Permission.TASK_CLAIM, lock=True)
        await self._precondition.require_lease(self._transaction, task, actor)
        if task.status is TaskStatus.IN_PROGRESS and await has_run_out(self._transaction, task):
            self._precondition.require_version(task, actor)
            await AssignmentService(self._transaction).end_lease(task)
            return await self._take_locked(actor, task, lease_seconds)
        if task.assignee_id == actor.id and task.status is TaskStatus.IN_PROGRESS:
            return task
        self._precondition.require_version(task, actor)
        if task.status is TaskStatus.AVAILABLE:
            # Given back since the attempt, so it's to be had again.
            return await self._take_locked(actor, task, lease_seconds)
        if task.status is not TaskStatus.IN_PROGRESS:
            raise NotAvailable(task.status)
        raise AlreadyClaimed(task.assignee_id)
