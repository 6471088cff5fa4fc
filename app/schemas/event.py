from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticKnownError

from app.models import Event, EventType
from app.schemas.fields import Sent, Seq, Strict, tell_nothing_of_repeats


def _require_readable(event_type: EventType) -> EventType:
    if event_type.is_internal:
        known = ", ".join(f"'{each}'" for each in EventType if not each.is_internal)
        raise PydanticKnownError("enum", {"expected": known})
    return event_type


# A type of event that readers can ask for.
ReadableType = Annotated[EventType, AfterValidator(_require_readable)]


class EventActor(Sent):
    id: UUID
    type: str


class EventTask(Sent):
    """The task that an event is about. `version` is null if the event is no change of it."""

    id: UUID
    version: int | None


class ChangedTask(EventTask):
    """The task, and its version after the change."""

    version: int


class Envelope(Sent):
    """An event as its readers get it, whichever way they read. `seq` is null until it's published."""

    id: UUID
    seq: int | None
    type: str
    timestamp: datetime
    actor: EventActor
    task: EventTask | None
    data: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> "Envelope":
        task = None if event.task_id is None else EventTask(id=event.task_id, version=event.task_version)
        return cls(
            id=event.id,
            seq=event.seq,
            type=event.type,
            timestamp=event.created_at,
            actor=EventActor(id=event.actor_id, type=event.actor_type),
            task=task,
            data=event.data,
        )


class EventQuery(Strict):
    """Which events. Without `after`, those that come from now on."""

    after: Seq | None = Field(default=None, description="The `seq` after which to go on.")
    epoch: UUID | None = Field(
        default=None, description="The history in which that is, as `Hive-Epoch` said it; another one is refused."
    )
    types: frozenset[ReadableType] = Field(default=frozenset(), json_schema_extra=tell_nothing_of_repeats)
    task_id: UUID | None = None


class EventStreamQuery(EventQuery):
    ticket: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = Field(
        default=None, description="From `POST /events/ticket`, in place of a token."
    )


class EventTicketResponse(Sent):
    ticket: str = Field(description="Opens one stream, as `?ticket=` of `GET /events/stream`.")
    expires_in: int = Field(description="Seconds in which it has to be used.")


class EventPageQuery(EventQuery):
    limit: int = Field(default=100, ge=1, le=1000)
    wait: float = Field(default=0, ge=0, le=30, description="Seconds to wait for an event if there is none yet.")


class EventPage(Sent):
    events: list[Envelope]
    next: int = Field(description="Pass it as `after` for what follows.")
    head: int = Field(description="The last `seq` that was given.")
    epoch: UUID = Field(description="Names the history that the numbers belong to.")
