"""How large events are, so that as many are read as are wanted in bytes."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, case, cast, func, literal_column, select
from sqlalchemy.orm import InstrumentedAttribute, aliased

from app.models import Event

# Characters of what stands around the data, amply.
ENVELOPE = 400


def size_of(data: InstrumentedAttribute[Any]) -> ColumnElement[int]:
    """About as many bytes as an event with this data has. What isn't compressed is not fetched for that."""
    stored = case((func.pg_column_compression(data).is_(None), func.pg_column_size(data)))
    return func.coalesce(stored, func.octet_length(cast(data, Text))) + literal_column(str(ENVELOPE))


@dataclass(frozen=True, slots=True)
class Measured:
    """Events with the size of those `before` each of them, and the `count` of all."""

    event: type[Event]
    before: ColumnElement[int]
    count: ColumnElement[int]


def first_bytes_of(events: Select[Event]) -> Measured:
    """Measure the events, which are limited by their number and in order."""
    limited = aliased(Event, events.subquery("limited"))
    size = size_of(limited.data)
    before = func.sum(size).over(order_by=limited.seq, rows=(None, 0)) - size
    measured = select(limited, before.label("before"), func.count().over().label("found")).subquery("measured")
    return Measured(aliased(Event, measured), measured.c.before, measured.c.found)
