"""A published event on its way to the readers: encoded once, with what decides who gets it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import cache
from typing import Any
from uuid import UUID

from redis.typing import EncodableT, FieldT
from sqlalchemy import BigInteger, Integer, Select, bindparam, select

from app.core.permissions import Audience
from app.core.redis import PrefixedRedis
from app.db.statements import keep
from app.db.transaction import Transaction
from app.events.sizes import first_bytes_of
from app.limits.answers import MAX_PAGE_BYTES
from app.models import Event, EventLog
from app.schemas.event import Envelope

# Characters. Most events are a tenth of it.
LARGEST_IN_STREAM = 8 * 1024
# What is written of an event, besides its data.
COLUMNS = (
    Event.id,
    Event.seq,
    Event.type,
    Event.actor_id,
    Event.actor_type,
    Event.task_id,
    Event.task_version,
    Event.audience,
    Event.created_at,
)
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
        data = json.dumps(event.data, ensure_ascii=False, separators=(",", ":"))
        return cls.of_columns([getattr(event, column.key) for column in COLUMNS], data)

    @classmethod
    def of_columns(cls, values: Sequence[Any], data: str) -> "PublishedEvent":
        """Of the values of `COLUMNS`, and the data as JSON.

        The text is that of an `Envelope`, which would take ten times as long to make.
        """
        id_, seq, type_, actor_id, actor_type, task_id, task_version, audience, created_at = values
        place = "null" if seq is None else seq
        time = created_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        version = "null" if task_version is None else task_version
        task = "null" if task_id is None else f'{{"id":"{task_id}","version":{version}}}'
        text = (
            f'{{"id":"{id_}","seq":{place},"type":"{type_}","timestamp":"{time}",'
            f'"actor":{{"id":"{actor_id}","type":"{actor_type}"}},"task":{task},"data":{data}}}'
        )
        return cls(seq, type_, actor_id, task_id, audience, text, id_)

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


_LOG = keep(select(EventLog))


async def read_log(transaction: Transaction) -> EventLog:
    """The state of the log; what it counts is true for this moment."""
    [log] = await transaction.scalars(_LOG)
    return log


async def read_published(transaction: Transaction, *, after: int, limit: int) -> list[PublishedEvent]:
    """The events that follow `after`, in order; fewer than `limit` if they are large."""
    given = {"after": after, "limit": limit, "most_bytes": MAX_PAGE_BYTES}
    return [PublishedEvent.of(event) for event in await transaction.scalars(_following(), given)]


@cache
def _following() -> Select[Event]:
    following = select(Event).where(Event.seq > bindparam("after")).order_by(Event.seq)
    found = first_bytes_of(following.limit(bindparam("limit", type_=Integer())))
    fits = found.before < bindparam("most_bytes", type_=BigInteger())
    return keep(select(found.event).where(fits).order_by(found.event.seq))
