from collections.abc import Mapping, Sequence
from functools import cache
from uuid import UUID

from sqlalchemy import bindparam, func, select

from app.core.errors import Conflict, NotFound
from app.core.permissions import Actor, Permission, Visibility, access_task, audience_of, select_visible_tasks
from app.db.statements import keep
from app.db.transaction import Transaction
from app.events import outbox
from app.events.types import TaskBlocked
from app.models import Task, TaskBlocker, TaskStatus, is_blocked
from app.schemas.fields import PageQuery
from app.services.dependency_graph import find_cycle, lock_graph
from app.services.pages import Listing, Order, Page, Pager, scope_of
from app.services.preconditions import UNCONDITIONAL, Precondition, access_for_change
from app.services.readiness import name_for_readers, tell_ready, tell_unblocked, visible_among
from app.services.workflow import TRANSITIONS

# What waits for a task is locked, changed and told of in the transaction that ends it. See ADR 50.
MOST_WAITING = 200
MOST_BLOCKERS = 100
_IS_OF_TASK = TaskBlocker.task_id == bindparam("task_id")
_IS_OF_BLOCKER = TaskBlocker.blocker_id == bindparam("blocker_id")
_DEPENDENCY = keep(select(TaskBlocker).where(_IS_OF_TASK, _IS_OF_BLOCKER))
# How many the task waits for, and how many wait for the blocker.
_COUNTS = keep(select(*(select(func.count()).where(each).scalar_subquery() for each in (_IS_OF_TASK, _IS_OF_BLOCKER))))


class DependencyCycle(Conflict):
    """`path` leads from the task over what it would wait for back to itself; null stands for what is hidden."""

    code = "dependency_cycle"

    def __init__(self, path: Sequence[UUID | None]) -> None:
        super().__init__("The tasks would wait for each other.", path=path)


class CompletedAlready(Conflict):
    code = "already_completed"

    def __init__(self) -> None:
        super().__init__(
            "A completed task waits for nothing; reopen it first.", allowed=TRANSITIONS[TaskStatus.COMPLETED]
        )


class TooManyBlockers(Conflict):
    code = "too_many_blockers"

    def __init__(self) -> None:
        super().__init__(f"The task waits for {MOST_BLOCKERS} others already, and may not wait for more.")


class TooManyWaiting(Conflict):
    """It doesn't say which they are, for the actor may not see all of them."""

    code = "too_many_waiting"

    def __init__(self) -> None:
        super().__init__(f"{MOST_WAITING} tasks wait for that one already, and there may not be more.")


class NotABlocker(NotFound):
    code = "not_a_blocker"

    def __init__(self) -> None:
        super().__init__("The task does not wait for such a task.")


class BlockerService:
    """What a task waits for: its blockers, which its owner names."""

    def __init__(self, transaction: Transaction, precondition: Precondition = UNCONDITIONAL) -> None:
        self._transaction = transaction
        self._precondition = precondition

    async def add(self, actor: Actor, task_id: UUID, blocker_id: UUID) -> Task:
        """Make the task wait for another one that the actor sees; again changes nothing.

        One that is in progress goes on, and waits if it has to be started again.

        Raises:
            CompletedAlready: the task waits for nothing any more.
            TooManyBlockers, TooManyWaiting: there are as many as there may be.
            TooManyDependencies: what it would wait for, directly or not, is too much to look through.
            DependencyCycle: the tasks would wait for each other.
        """
        task, blocker = await self._lock_both(actor, task_id, blocker_id)
        if task.status is TaskStatus.COMPLETED:
            raise CompletedAlready
        if await self._find(task_id, blocker_id):
            return task
        await self._require_room(task_id, blocker_id)
        await lock_graph(self._transaction)
        if cycle := await find_cycle(self._transaction, task_id, through=blocker_id):
            visible = await visible_among(self._transaction, actor, cycle)
            raise DependencyCycle([step if step in visible else None for step in cycle])
        self._transaction.add(TaskBlocker(task_id=task_id, blocker_id=blocker_id, created_by=actor.id))
        task.version += 1
        event = TaskBlocked(blocker_id=name_for_readers(blocker, task))
        await outbox.record(self._transaction, event, actor=actor, task=task, audience=audience_of(task))
        return task

    async def remove(self, actor: Actor, task_id: UUID, blocker_id: UUID) -> Task:
        """Remove a blocker of the task, which its owner may not see any more."""
        task = await access_for_change(self._transaction, actor, task_id, Permission.TASK_EDIT, self._precondition)
        dependency = await self._find(task_id, blocker_id)
        if dependency is None:
            raise NotABlocker
        blocker = await self._transaction.get(Task, blocker_id)
        assert blocker is not None
        await self._transaction.delete(dependency)
        await tell_unblocked(self._transaction, actor, [task], blocker)
        was_in_the_way = blocker.status is not TaskStatus.COMPLETED
        if was_in_the_way and task.status is TaskStatus.AVAILABLE and not await self._is_blocked(task_id):
            await tell_ready(self._transaction, actor, [task])
        return task

    async def list_visible(self, actor: Actor, task_id: UUID, query: PageQuery, pager: Pager) -> Page[Task]:
        """The blockers that the actor may see, completed ones too, in the order in which they were made."""
        await access_task(self._transaction, actor, task_id, Permission.TASK_VIEW)
        given = {"task_id": task_id, **actor.visibility.statement_values}
        scope = scope_of("blockers", actor=actor.id, task=task_id)
        return await pager.fetch(_visible_blockers(actor.visibility.statement_key), given, query, scope=scope)

    async def _find(self, task_id: UUID, blocker_id: UUID) -> TaskBlocker | None:
        given = {"task_id": task_id, "blocker_id": blocker_id}
        found: TaskBlocker | None = await self._transaction.scalar(_DEPENDENCY, given)
        return found

    async def _require_room(self, task_id: UUID, blocker_id: UUID) -> None:
        """Both are locked, so no other dependency of them is made meanwhile."""
        given = {"task_id": task_id, "blocker_id": blocker_id}
        blockers, waiting = await self._transaction.one(_COUNTS, given)
        if blockers >= MOST_BLOCKERS:
            raise TooManyBlockers
        if waiting >= MOST_WAITING:
            raise TooManyWaiting

    async def _lock_both(self, actor: Actor, task_id: UUID, blocker_id: UUID) -> tuple[Task, Task]:
        """Both, in the order in which all lock tasks. The blocker too: it must not be completed or go meanwhile."""
        conditions: Mapping[UUID, tuple[Permission, Precondition]] = {
            blocker_id: (Permission.TASK_VIEW, UNCONDITIONAL),
            task_id: (Permission.TASK_EDIT, self._precondition),
        }
        found = {
            each: await access_for_change(self._transaction, actor, each, *conditions[each])
            for each in sorted(conditions)
        }
        return found[task_id], found[blocker_id]

    async def _is_blocked(self, task_id: UUID) -> bool:
        return await self._transaction.scalar(select(Task.id).where(Task.id == task_id, is_blocked())) is not None


@cache
def _visible_blockers(visibility: Visibility) -> Listing[Task]:
    blockers = select_visible_tasks(visibility).join(TaskBlocker, TaskBlocker.blocker_id == Task.id)
    return Listing(blockers.where(_IS_OF_TASK), Order(key=Task.created_at, id=Task.id))
