"""Which events a reader wants: by type, by task."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Select

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
        """The same as SQL."""
        statement = statement.where(Event.type.in_(self.types))
        return statement if self.task_id is None else statement.where(Event.task_id == self.task_id)


EVERYTHING = EventFilter()
