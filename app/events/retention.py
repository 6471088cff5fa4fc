"""Forgetting events that are past their keep time, from the log's beginning on, in batches.

The log can be replayed from `purged_seq` on, never in part from before it. Events of a task that is still there stay
as its history, though too old to be replayed.
"""

from datetime import timedelta

from sqlalchemy import func, or_, select, update

from app.db.purging import purge_some
from app.db.transaction import Transaction
from app.models import Event, EventLog, Task

BATCH = 5_000


async def purge_events(transaction: Transaction, *, keep: timedelta) -> bool:
    """Move the log's beginning on and delete what is before it; whether there may be more to do."""
    # In this order, for the relay waits for the log's row once it's written, and deleting may take a while.
    are_more = await _delete_passed_events(transaction)
    passed = await _pass_old_events(transaction, keep)
    return passed > 0 or are_more


async def _pass_old_events(transaction: Transaction, keep: timedelta) -> int:
    """Move the beginning past the old events that follow it; how many there were."""
    begin = select(EventLog.purged_seq).scalar_subquery()
    end = select(EventLog.published_seq).scalar_subquery()
    following = (
        select(Event.seq, (Event.created_at < func.now() - keep).label("is_old"))
        .where(Event.seq > begin, Event.seq <= end)
        .order_by(Event.seq)
        .limit(BATCH)
    ).subquery()
    # Numbers are nearly in the order of time. The first young one ends the search, should an old one come after it.
    first_young = select(func.min(following.c.seq)).where(~following.c.is_old).scalar_subquery()
    old = select(func.max(following.c.seq), func.count()).where(
        following.c.is_old, or_(first_young.is_(None), following.c.seq < first_young)
    )
    last, count = await transaction.one(old)
    if last is not None:
        await transaction.execute(update(EventLog).values(purged_seq=func.greatest(EventLog.purged_seq, last)))
    return int(count)


async def _delete_passed_events(transaction: Transaction) -> bool:
    begin = select(EventLog.purged_seq).scalar_subquery()
    is_history = select(Task.id).where(Task.id == Event.task_id).exists()
    return await purge_some(transaction, Event, Event.seq <= begin, ~is_history)
