from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, SmallInteger, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.logging import current_request_id
from app.models.base import Base, Identified, one_of


class EventType(StrEnum):
    """`<noun>.<what happened>`."""

    TASK_CREATED = "task.created"
    TASK_UPDATED = "task.updated"
    TASK_DELETED = "task.deleted"
    TASK_ASSIGNED = "task.assigned"
    TASK_UNASSIGNED = "task.unassigned"
    TASK_STATUS_CHANGED = "task.status_changed"
    TASK_LEASE_EXPIRED = "task.lease_expired"
    TASK_BLOCKED = "task.blocked"
    TASK_UNBLOCKED = "task.unblocked"
    TASK_READY = "task.ready"
    CHAT_MESSAGE = "chat.message"
    USER_ONLINE = "user.online"
    USER_OFFLINE = "user.offline"
    NOTIFICATION_CREATED = "notification.created"
    NOTIFICATION_READ = "notification.read"
    # For HIVE's own processes. They're in the log so that none of them misses one, and no reader is shown them.
    ACCOUNT_DEACTIVATED = "account.deactivated"
    ACCOUNT_CHANGED = "account.changed"
    SIGN_IN_ENDED = "sign_in.ended"
    LOG_RENEWED = "log.renewed"

    @property
    def is_internal(self) -> bool:
        return self in INTERNAL_TYPES

    @property
    def raises_version(self) -> bool:
        """Whether it's a change of its task, which has the next version by it."""
        return self in CHANGES_OF_TASKS

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema names what readers can meet."""
        told = handler(schema)
        handler.resolve_ref_schema(told)["enum"] = [each.value for each in cls if not each.is_internal]
        return told


INTERNAL_TYPES = frozenset(
    {EventType.ACCOUNT_DEACTIVATED, EventType.ACCOUNT_CHANGED, EventType.SIGN_IN_ENDED, EventType.LOG_RENEWED}
)
# Each has the version of its task after the change. An event that is about a task and doesn't change it has none.
CHANGES_OF_TASKS = frozenset(
    {
        EventType.TASK_CREATED,
        EventType.TASK_UPDATED,
        EventType.TASK_DELETED,
        EventType.TASK_ASSIGNED,
        EventType.TASK_UNASSIGNED,
        EventType.TASK_STATUS_CHANGED,
        EventType.TASK_LEASE_EXPIRED,
        EventType.TASK_BLOCKED,
        EventType.TASK_UNBLOCKED,
        EventType.TASK_READY,
    }
)
# For its audience alone: an admin may see every task, and nobody else's notifications.
PERSONAL_TYPES = frozenset({EventType.NOTIFICATION_CREATED, EventType.NOTIFICATION_READ})

_CHANGES = ", ".join(f"'{each}'" for each in sorted(CHANGES_OF_TASKS))


class Event(Identified, Base):
    """One change, written in its transaction. It has no foreign keys: the log outlives what it tells of."""

    __tablename__ = "events"

    # The order of writing. Two changes of one task are in the right order here, for the second waited
    # for the first one's lock; it's not the order of becoming visible, which is why there is a `seq`.
    position: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    # Given by the relay at publication: rising, without gaps.
    seq: Mapped[int | None] = mapped_column(unique=True)
    type: Mapped[str]
    actor_id: Mapped[UUID]
    actor_type: Mapped[str] = mapped_column(server_default="user")
    task_id: Mapped[UUID | None]
    task_version: Mapped[int | None]
    # Who may read it besides admins: null means everybody who is signed in.
    audience: Mapped[list[UUID] | None]
    data: Mapped[dict[str, Any]]
    # The request that it came from, to follow one through the logs.
    request_id: Mapped[str | None] = mapped_column(default=current_request_id)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        one_of("type", EventType),
        CheckConstraint(
            f"(task_version IS NOT NULL) = (type IN ({_CHANGES})) AND (task_version IS NULL OR task_id IS NOT NULL)",
            name="version_of_change",
        ),
        # Two changes of a task can't have one version. What changes none has no version, and is as often there as told.
        Index("uq_events_task_id_task_version", "task_id", "task_version", unique=True),
        # The history of a task.
        Index(None, "task_id", "position", postgresql_where=text("task_id IS NOT NULL")),
        Index("ix_events_unpublished", "position", postgresql_where=text("seq IS NULL")),
    )


class EventLog(Base):
    """The one row that counts the log.

    `last_seq` is the last number given; what is after `published_seq` has yet to reach the stream. Up to
    `purged_seq` the log is past its keep time, and can't be replayed.
    """

    __tablename__ = "event_log"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    # Names this history. A database that was made anew has another one, and an old stream is not mistaken for its.
    epoch: Mapped[UUID] = mapped_column(server_default=func.gen_random_uuid())
    last_seq: Mapped[int] = mapped_column(server_default=text("0"))
    published_seq: Mapped[int] = mapped_column(server_default=text("0"))
    purged_seq: Mapped[int] = mapped_column(server_default=text("0"))
    # The server and table that this history was last written in; another one means that it's a copy, or was restored.
    origin: Mapped[str] = mapped_column(server_default="")
    # Numbers that no reader can stand at: [last before, first after] of each history's end that this database has lost.
    lost: Mapped[list[list[int]]] = mapped_column(JSONB(), server_default=text("'[]'"))

    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)
