"""The tasks and what they wait for as a graph, which must stay without cycles."""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import CTE, Uuid, cast, false, func, select

from app.core.errors import Conflict
from app.db.transaction import Transaction
from app.models import TaskBlocker

GRAPH_LOCK = 4_183_020
# Everybody who adds a dependency waits while somebody looks through the graph.
MOST_REACHED = 10_000


class TooManyDependencies(Conflict):
    code = "too_many_dependencies"

    def __init__(self) -> None:
        super().__init__(f"The task would wait for more than {MOST_REACHED} others, directly or not, and may not.")


async def lock_graph(transaction: Transaction) -> None:
    """Until the transaction ends nobody else adds a dependency, so that no two close a cycle together.

    It's the last lock that a transaction takes, so its holder waits for nobody.
    """
    await transaction.execute(select(func.pg_advisory_xact_lock(GRAPH_LOCK)))


async def find_cycle(transaction: Transaction, task_id: UUID, *, through: UUID) -> list[UUID]:
    """The shortest way from the task over `through` back to itself, if it waited for that; empty if there is none.

    Raises:
        TooManyDependencies: there are too many to say so.
    """
    if task_id == through:
        return [task_id, task_id]
    # Nearer ones come first, so if the task is among those that are looked at, then so is what leads to it.
    reached = select(_reached_from(through).c.id).limit(MOST_REACHED + 1).subquery()
    looked_at = select(func.count(), func.coalesce(func.bool_or(reached.c.id == task_id), false()))
    [(count, is_found)] = await transaction.execute(looked_at.select_from(reached))
    if not is_found:
        if count > MOST_REACHED:
            raise TooManyDependencies
        return []
    edges = select(TaskBlocker.task_id, TaskBlocker.blocker_id).join(reached, reached.c.id == TaskBlocker.task_id)
    steps = [(waiting, blocker) for waiting, blocker in await transaction.execute(edges)]
    return [task_id, *_shortest_way(through, task_id, steps)]


def _reached_from(task_id: UUID) -> CTE:
    """All that the task waits for, directly or not, and itself. Each once, however many ways lead there."""
    reached = select(cast(task_id, Uuid).label("id")).cte("reached", recursive=True)
    further = select(TaskBlocker.blocker_id).join(reached, TaskBlocker.task_id == reached.c.id)
    return reached.union(further)


def _shortest_way(start: UUID, end: UUID, steps: Iterable[tuple[UUID, UUID]]) -> list[UUID]:
    following: dict[UUID, list[UUID]] = {}
    for waiting, blocker in steps:
        following.setdefault(waiting, []).append(blocker)
    come_from = {start: start}
    reached = [start]
    # The list grows while it's gone through, so that shorter ways come before longer ones.
    for waiting in reached:
        new = [each for each in following.get(waiting, ()) if each not in come_from]
        come_from.update(dict.fromkeys(new, waiting))
        reached.extend(new)
    way = [end]
    while way[-1] != start:
        way.append(come_from[way[-1]])
    return way[::-1]
