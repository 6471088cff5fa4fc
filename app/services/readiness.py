"""Which tasks wait for which, when one is started, completed or deleted."""

from collections.abc import Callable, Collection, Iterable
from uuid import UUID

from sqlalchemy import Uuid, any_, bindparam, func, literal_column, select, union_all, update
from sqlalchemy.dialects.postgresql import ARRAY

from app.core.errors import Conflict
from app.core.permissions import Actor, audience_of, is_within, select_visible_tasks
from app.db.statements import keep, whole
from app.db.transaction import Transaction
from app.events import outbox
from app.events.types import EventData, TaskReady, TaskUnblocked
from app.models import Task, TaskBlocker, TaskStatus, is_blocked


class Blocked(Conflict):
    """`waiting_for` are those that the caller may see, `hidden` is how many more there are."""

    code = "blocked"

    def __init__(self, waiting_for: Collection[UUID], *, hidden: int) -> None:
        super().__init__(
            "It can't start before the tasks that it waits for are completed.",
            waiting_for=sorted(waiting_for),
            hidden=hidden,
        )


_UNFINISHED = keep(
    select(Task.id)
    .join(TaskBlocker, TaskBlocker.blocker_id == Task.id)
    .where(TaskBlocker.task_id == bindparam("task_id"), Task.status != TaskStatus.COMPLETED)
)


async def require_unblocked(transaction: Transaction, actor: Actor, task_id: UUID) -> None:
    """Raises `Blocked` if the task, locked by now, waits for one that isn't completed."""
    waiting_for = list(await transaction.scalars(_UNFINISHED, {"task_id": task_id}))
    if waiting_for:
        visible = await visible_among(transaction, actor, waiting_for)
        raise Blocked(visible, hidden=len(waiting_for) - len(visible))


async def visible_among(transaction: Transaction, actor: Actor, task_ids: Iterable[UUID]) -> frozenset[UUID]:
    """Those of the tasks that the actor may know of."""
    visible = select_visible_tasks(actor.visibility).with_only_columns(Task.id)
    return frozenset(await transaction.scalars(visible.where(Task.id.in_(set(task_ids)))))


def name_for_readers(blocker: Task, task: Task) -> UUID | None:
    """Return the blocker's id for an event of the task; None unless all readers of the event may see the blocker."""
    return blocker.id if is_within(audience_of(task), audience_of(blocker)) else None


# The ids that a statement is given by this name.
NAMED = select(func.unnest(bindparam("named", type_=ARRAY(Uuid()))))
_WAITING = select(TaskBlocker.task_id).where(TaskBlocker.blocker_id == any_(bindparam("ended", type_=ARRAY(Uuid()))))
# As an array it's looked up by the primary key, whatever the planner takes the table for.
_WITH_WAITING = Task.id == any_(func.array(union_all(NAMED, _WAITING).scalar_subquery()))
_LOCK_WITH_WAITING = keep(select(Task.id).where(_WITH_WAITING).order_by(Task.id).with_for_update())


async def lock_with_waiting(transaction: Transaction, task_ids: Iterable[UUID], *, ending: Iterable[UUID]) -> set[UUID]:
    """Lock the tasks, and those that wait for the `ending` ones, all in the order of their ids; which they are."""
    ended = list(ending)
    return set(await transaction.scalars(_LOCK_WITH_WAITING, {"named": [*task_ids, *ended], "ended": ended}))


async def tell_unblocked(transaction: Transaction, actor: Actor, tasks: Collection[Task], blocker: Task) -> None:
    """Write down that the tasks, locked by now, no longer depend on the blocker."""
    await _change_each(
        transaction, actor, tasks, lambda task: TaskUnblocked(blocker_id=name_for_readers(blocker, task))
    )


async def tell_ready(transaction: Transaction, actor: Actor, tasks: Collection[Task]) -> None:
    """Write down that available tasks, locked by now, have stopped waiting."""
    await _change_each(transaction, actor, tasks, lambda _: TaskReady())


_RAISE_VERSIONS = keep(
    update(Task)
    .where(Task.id == any_(bindparam("task_ids", type_=ARRAY(Uuid()))))
    .values(version=Task.version + literal_column("1"))
    .returning(*whole(Task))
)


async def _change_each(
    transaction: Transaction, actor: Actor, tasks: Collection[Task], event_of: Callable[[Task], EventData]
) -> None:
    """Raise the versions by one, with an event each. Many may wait for one, so it takes as few statements for all."""
    if not tasks:
        return
    changed = await transaction.scalars(_RAISE_VERSIONS, {"task_ids": [task.id for task in tasks]})
    events = [(event_of(task), task) for task in sorted(changed, key=lambda task: task.id)]
    await outbox.record_each(transaction, events, actor=actor)


_WAITING_WITH_OTHERS = keep(
    select(Task, is_blocked(besides=bindparam("blocker_id", type_=Uuid())))
    .join(TaskBlocker, TaskBlocker.task_id == Task.id)
    .where(TaskBlocker.blocker_id == bindparam("blocker_id", type_=Uuid()))
    .order_by(Task.id)
)


class WaitingTasks:
    """Those that wait for a task which is about to be completed or deleted.

    All are locked with it, in the order of their ids. So of two last blockers that are completed at once, the later
    one finds the other completed; and nobody waits for somebody who waits for them.
    """

    def __init__(self, transaction: Transaction, locked: set[UUID]) -> None:
        self._transaction = transaction
        self._locked = locked

    @classmethod
    async def lock(cls, transaction: Transaction, blocker_id: UUID) -> "WaitingTasks":
        return cls(transaction, await lock_with_waiting(transaction, (), ending=[blocker_id]))

    async def tell_of_completion(self, actor: Actor, blocker: Task) -> None:
        """Tell of those for which it was the last."""
        await tell_ready(self._transaction, actor, _available(await self._find(blocker)))

    async def tell_of_deletion(self, actor: Actor, blocker: Task) -> None:
        """Tell all that they have one blocker less, and of those for which it was the last."""
        found = await self._find(blocker)
        await tell_unblocked(self._transaction, actor, [task for task, _ in found], blocker)
        if blocker.status is not TaskStatus.COMPLETED:
            await tell_ready(self._transaction, actor, _available(found))

    async def _find(self, blocker: Task) -> list[tuple[Task, bool]]:
        """The tasks that wait for the blocker, and whether they wait for others as well."""
        waiting = await self._transaction.execute(_WAITING_WITH_OTHERS, {"blocker_id": blocker.id})
        found = [(task, is_held_up) for task, is_held_up in waiting]
        if {task.id for task, _ in found} <= self._locked:
            return found
        # Some began to wait just before the blocker was locked. None can any more.
        self._locked |= await lock_with_waiting(self._transaction, (), ending=[blocker.id])
        return await self._find(blocker)


def _available(found: Iterable[tuple[Task, bool]]) -> list[Task]:
    """Those that can be started, of tasks and whether they are still blocked."""
    return [task for task, is_held_up in found if task.status is TaskStatus.AVAILABLE and not is_held_up]
