"""Which events a reader wants: by type, by task."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ARRAY, Select, Text, Uuid, any_, bindparam

from app.events.published import PublishedEvent
from app.models import Event, EventType

READABLE_TYPES = frozenset(event_type for event_type in EventType if not event_type.is_internal)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """All that is for readers, unless narrowed. HIVE's internal events pass none."""

    types: frozenset[EventType] = READABLE_TYPES
    task_id: UUID | None = None

    @classmethod
    def of(cls, types: Iterable[EventType], task_id: UUID | None) -> "EventFilter":
        """No types at all means all of them; what is internal can't be asked for."""
        asked = frozenset(types)
        return cls(asked & READABLE_TYPES if asked else READABLE_TYPES, task_id)

    def admits(self, event: PublishedEvent) -> bool:
        return event.type in self.types and self.task_id in (None, event.task_id)

    def apply(self, statement: Select[Event]) -> Select[Event]:
        """Return the filter as SQL. A statement that is kept gets the `values` of another filter."""
        types = bindparam("types", list(self.types), ARRAY(Text()))
        statement = statement.where(Event.type == any_(types))
        if self.task_id is None:
            return statement
        return statement.where(Event.task_id == bindparam("only_task_id", self.task_id, Uuid()))

    def values(self) -> dict[str, object]:
        return {"types": list(self.types), "only_task_id": self.task_id}


EVERYTHING = EventFilter()
