"""Reading the log from a position on: what a reader missed, in pages, as far as they may see it."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, BindParameter, Select, Text, bindparam, cast, select

from app.core.errors import HiveError
from app.core.permissions import SYSTEM, Actor, Visibility, select_visible_events
from app.db.statements import keep
from app.db.transaction import Transaction
from app.events.filters import EventFilter
from app.events.published import COLUMNS, PublishedEvent
from app.events.sizes import first_bytes_of
from app.limits.answers import MAX_PAGE_BYTES
from app.models import Event, EventLog

# So many events are written in a few milliseconds, for which all else waits.
PIECE = 200


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
    statement = _page(actor.visibility.statement_key, is_of_task=wanted.task_id is not None)
    given = {"after": after.seq, "most": size.events, "most_bytes": size.bytes}
    rows = await transaction.execute(statement, given | actor.visibility.statement_values | wanted.values())
    state, count = _State(*rows[0][:4]), rows[0][4]
    if not _is_in(state, after):
        raise Resync
    events = await _events_in(rows)
    is_full = len(events) == size.events or len(events) < (count or 0)
    reached = events[-1].seq if is_full else None
    return BacklogPage(events, reached or state.last_seq, state.last_seq, state.epoch)


async def _events_in(rows: Sequence[tuple[Any, ...]]) -> list[PublishedEvent]:
    events: list[PublishedEvent] = []
    for start in range(0, len(rows), PIECE):
        if start:
            # Somebody else's request comes first.
            await asyncio.sleep(0)
        # Without an event the row is that of the log alone.
        piece = rows[start : start + PIECE]
        events += [PublishedEvent.of_columns(row[5:-1], row[-1]) for row in piece if row[5] is not None]
    return events


@cache
def _page(visibility: Visibility, *, is_of_task: bool) -> Select[Any]:
    """The log's state, and the events. It's made once for all who ask in this way: that takes longer than to read them.

    The reader and the task are given at each use.
    """
    of_task = SYSTEM.id if is_of_task else None
    following = EventFilter(task_id=of_task).apply(select_visible_events(visibility))
    following = following.where(Event.seq > _number("after"))
    found = first_bytes_of(following.order_by(Event.seq).limit(_number("most")))
    event = found.event
    # One statement sees one state: what is up to this head and not purged can't be missing from its events.
    statement = select(
        EventLog.epoch,
        EventLog.last_seq,
        EventLog.purged_seq,
        cast(EventLog.lost, Text),
        found.count,
        *(getattr(event, column.key) for column in COLUMNS),
        cast(event.data, Text),
    ).outerjoin_from(EventLog, event, found.before < _number("most_bytes"))
    return keep(statement.order_by(event.seq))


def _number(name: str) -> BindParameter[int]:
    # One without any value can't be in a statement that has an IN, as that for admins has.
    return bindparam(name, 0, BigInteger())


@dataclass(frozen=True, slots=True)
class _State:
    """Of the log. `lost` is JSON as it is in the row."""

    epoch: UUID
    last_seq: int
    purged_seq: int
    lost: str


def _is_in(state: _State, position: LogPosition) -> bool:
    if position.epoch not in {None, state.epoch}:
        return False
    is_lost = any(last < position.seq < first for last, first in json.loads(state.lost))
    return state.purged_seq <= position.seq <= state.last_seq and not is_lost
