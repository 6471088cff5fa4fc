"""How far publication is behind the writing of events."""

from sqlalchemy import func, select, union_all

from app.db.transaction import Transaction
from app.models import Event, EventLog


async def publication_lag(transaction: Transaction) -> float:
    """The age in seconds of the events whose turn it is to be numbered and published; 0 when there is none."""
    # Each is looked for at the beginning of an index. One condition for both would have the whole log read.
    unnumbered = select(Event.created_at).where(Event.seq.is_(None)).order_by(Event.position).limit(1)
    published = select(EventLog.published_seq).scalar_subquery()
    unpublished = select(Event.created_at).where(Event.seq > published).order_by(Event.seq).limit(1)
    waiting = union_all(unnumbered, unpublished).subquery()
    age = func.extract("epoch", func.now() - func.min(waiting.c.created_at))
    return float(await transaction.scalar(select(age)) or 0)
