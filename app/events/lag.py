"""How far publication is behind the writing of events."""

from decimal import Decimal
from functools import cache

from sqlalchemy import ColumnElement, Select, func, literal_column, select, union_all

from app.db.statements import keep
from app.db.transaction import Transaction
from app.models import Event, EventLog


async def publication_lag(transaction: Transaction) -> float:
    """The age in seconds of the events whose turn it is to be numbered and published; 0 when there is none."""
    return float(await transaction.scalar(_age()) or 0)


@cache
def _age() -> Select[Decimal]:
    one: ColumnElement[int] = literal_column("1")
    # Each is looked for at the beginning of an index. One condition for both would have the whole log read.
    unnumbered = select(Event.created_at).where(Event.seq.is_(None)).order_by(Event.position).limit(one)
    published = select(EventLog.published_seq).scalar_subquery()
    unpublished = select(Event.created_at).where(Event.seq > published).order_by(Event.seq).limit(one)
    waiting = union_all(unnumbered, unpublished).subquery()
    return keep(select(func.extract("epoch", func.now() - func.min(waiting.c.created_at))))
