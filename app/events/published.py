"""A published event on its way to the readers: encoded once, with what decides who gets it."""

import json
from dataclasses import dataclass
from uuid import UUID

from redis.typing import EncodableT, FieldT
from sqlalchemy import select

from app.core.permissions import Audience
from app.core.redis import PrefixedRedis
from app.db.transaction import Transaction
from app.events.sizes import first_bytes_of
from app.limits.answers import MAX_PAGE_BYTES
from app.models import Event, EventLog
from app.schemas.event import Envelope

# Characters. Most events are a tenth of it.
LARGEST_IN_STREAM = 8 * 1024
# redis-py's own type for the fields that it writes; those that it reads are texts.
StreamFields = dict[FieldT, EncodableT]


@dataclass(frozen=True, slots=True)
class PublishedEvent:
    """`text` is the envelope as JSON; the rest is for HIVE's own processes. `seq` is None for what is live only."""

    seq: int | None
    type: str
    actor_id: UUID
    task_id: UUID | None
    audience: Audience
    text: str
    id: UUID | None = None

    @classmethod
    def of(cls, event: Event) -> "PublishedEvent":
        envelope = Envelope.of(event)
        text = envelope.model_dump_json()
        return cls(event.seq, envelope.type, event.actor_id, event.task_id, event.audience, text, event.id)

    def envelope(self) -> Envelope:
        return Envelope.model_validate_json(self.text)

    def to_stream(self) -> StreamFields:
        """Of a large event only its place: thousands of entries are kept in memory, and the log has the rest."""
        if len(self.text) > LARGEST_IN_STREAM:
            return {"id": str(self.id)}
        audience = None if self.audience is None else [str(user_id) for user_id in self.audience]
        task = None if self.task_id is None else str(self.task_id)
        header = {"type": self.type, "actor": str(self.actor_id), "task": task, "audience": audience}
        return {"id": str(self.id), "header": json.dumps(header), "event": self.text}

    @classmethod
    def from_stream(cls, entry_id: str, fields: dict[str, str]) -> "PublishedEvent | None":
        """None for what has to be read from the log: a large event, or an entry that another version has written."""
        try:
            header = json.loads(fields["header"])
            audience = header["audience"]
            return cls(
                seq=seq_of(entry_id),
                type=header["type"],
                actor_id=UUID(header["actor"]),
                task_id=UUID(header["task"]) if header["task"] else None,
                audience=None if audience is None else [UUID(user_id) for user_id in audience],
                text=fields["event"],
                id=UUID(fields["id"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def seq_of(entry_id: str) -> int:
    return int(entry_id.partition("-")[0])


def stream_key(redis: PrefixedRedis, epoch: UUID) -> str:
    """The Redis stream of one history. Its entries have the ids `<seq>-0`, so that a position in it is a `seq`."""
    return redis.key(f"events:{epoch}")


async def read_log(transaction: Transaction) -> EventLog:
    """The state of the log; what it counts is true for this moment."""
    [log] = await transaction.scalars(select(EventLog))
    return log


async def read_published(transaction: Transaction, *, after: int, limit: int) -> list[PublishedEvent]:
    """The events that follow `after`, in order; fewer than `limit` if they are large."""
    found = first_bytes_of(select(Event).where(Event.seq > after).order_by(Event.seq).limit(limit))
    statement = select(found.event).where(found.before < MAX_PAGE_BYTES).order_by(found.event.seq)
    return [PublishedEvent.of(event) for event in await transaction.scalars(statement)]
