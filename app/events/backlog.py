"""Reading the log from a position on: what a reader missed, in pages, as far as they may see it."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select

from app.core.errors import HiveError
from app.core.permissions import Actor, select_visible_events
from app.db.transaction import Transaction
from app.events.filters import EventFilter
from app.events.published import PublishedEvent
from app.events.sizes import first_bytes_of
from app.limits.answers import MAX_PAGE_BYTES
from app.models import Event, EventLog


class Resync(HiveError):
    """The log can't be read on from there; the reader has to read the state again and go on from its position."""

    status = 410
    code = "resync"

    def __init__(self) -> None:
        super().__init__("The log can't be read on from this position; read the state again and go on from there.")


@dataclass(frozen=True, slots=True)
class LogPosition:
    """Where a reader is: after which `seq`, and in which history, if it says so."""

    seq: int
    epoch: UUID | None = None


@dataclass(frozen=True, slots=True)
class BacklogPage:
    """Events in order. All that this reader may see up to `reached` is in it or before it; `head` is the log's end."""

    events: Sequence[PublishedEvent]
    reached: int
    head: int
    epoch: UUID

    def to_json(self) -> str:
        """As `EventPage` has it, of texts that are ready: they need not be read and written again."""
        events = ",".join(event.text for event in self.events)
        return f'{{"events":[{events}],"next":{self.reached},"head":{self.head},"epoch":"{self.epoch}"}}'


@dataclass(frozen=True, slots=True)
class PageSize:
    """How many events a page has at most, and how many bytes of data; one event it may always have."""

    events: int
    bytes: int = MAX_PAGE_BYTES

    def within(self, most_bytes: int) -> "PageSize":
        return PageSize(self.events, min(self.bytes, most_bytes))


async def read_backlog(
    transaction: Transaction, actor: Actor, *, after: LogPosition, size: PageSize, wanted: EventFilter
) -> BacklogPage:
    """The page that follows `after`. It's shorter than asked for if the events are large.

    Raises:
        Resync: what follows is past its keep time, or the position is one of another history.
    """
    following = wanted.apply(select_visible_events(actor)).where(Event.seq > after.seq)
    found = first_bytes_of(following.order_by(Event.seq).limit(size.events))
    # One statement sees one state: what is up to this head and not purged can't be missing from its events.
    statement = select(EventLog, found.event, found.count).outerjoin(found.event, found.before < size.bytes)
    statement = statement.order_by(found.event.seq)
    rows = await transaction.execute(statement)
    state: EventLog = rows[0][0]
    if not _is_in(state, after):
        raise Resync
    events = [PublishedEvent.of(event) for _, event, _ in rows if event is not None]
    is_full = len(events) == size.events or len(events) < (rows[0][2] or 0)
    reached = events[-1].seq if is_full else None
    return BacklogPage(events, reached or state.last_seq, state.last_seq, state.epoch)


def _is_in(state: EventLog, position: LogPosition) -> bool:
    if position.epoch not in {None, state.epoch}:
        return False
    is_lost = any(last < position.seq < first for last, first in state.lost)
    return state.purged_seq <= position.seq <= state.last_seq and not is_lost
