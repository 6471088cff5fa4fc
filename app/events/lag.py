"""How far publication is behind the writing of events."""

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Event, EventLog


async def publication_lag(session: AsyncSession) -> float:
    """The age in seconds of the oldest event that the relay has yet to publish; 0 when there is none."""
    published = select(EventLog.published_seq).scalar_subquery()
    waiting = or_(Event.seq.is_(None), Event.seq > published)
    age = func.extract("epoch", func.now() - func.min(Event.created_at))
    return float(await session.scalar(select(age).where(waiting)) or 0)
