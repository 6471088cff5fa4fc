"""Reading the log from a position on: what a reader missed, in pages, as far as they may see it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import HiveError
from app.core.permissions import Actor, select_visible_events
from app.events.filters import EventFilter
from app.events.published import PublishedEvent, read_log
from app.models import Event


class Resync(HiveError):
    """The log can't be read on from there; the reader has to read the state again and go on from its position."""

    status = 410
    code = "resync"

    def __init__(self) -> None:
        super().__init__("The log can't be read on from this position; read the state again and go on from there.")


@dataclass(frozen=True, slots=True)
class BacklogPage:
    """Events in order. All that this reader may see up to `reached` is in it or before it; `head` is the log's end."""

    events: Sequence[PublishedEvent]
    reached: int
    head: int


async def read_backlog(
    session: AsyncSession, actor: Actor, *, after: int, limit: int, wanted: EventFilter
) -> BacklogPage:
    """The page that follows `after`.

    Raises:
        Resync: the log doesn't reach that far, so the position is one of another history.
    """
    # Before the events: numbers are given in whole transactions, so up to this head nothing can be missing.
    head = (await read_log(session)).last_seq
    if after > head:
        raise Resync
    following = wanted.apply(select_visible_events(actor)).where(Event.seq > after)
    rows = await session.scalars(following.order_by(Event.seq).limit(limit))
    events = [PublishedEvent.of(row) for row in rows]
    reached = events[-1].seq if events else None
    if reached is None or len(events) < limit:
        reached = max(head, reached or head)
    return BacklogPage(events, reached, head)
