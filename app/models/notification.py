from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Identified, Vocabulary, one_of


class NotificationKind(StrEnum):
    """Why somebody is told."""

    ASSIGNED = "assigned"  # They were given a task.
    UNASSIGNED = "unassigned"  # A task of theirs was taken back, or given to somebody else.
    MENTIONED = "mentioned"  # A task or a chat message names them.
    CLAIMED = "claimed"  # Somebody took a task that they own.
    COMPLETED = "completed"  # A task that they own is completed.
    REOPENED = "reopened"  # A task that they own or had completed is open again.
    RELEASED = "released"  # Somebody gave back a task that they own.
    HANDED_OVER = "handed_over"  # They own a task that somebody else owned, or all tasks of an account.
    SIGN_INS_FAILED = "sign_ins_failed"  # Somebody tried wrong passwords for their account, again and again.
    DUE_IN_A_DAY = "due_in_a_day"
    DUE_IN_AN_HOUR = "due_in_an_hour"


class Notification(Identified, Base):
    """What one person is told about, until they have read it. It outlives its task, whose title it keeps."""

    __tablename__ = "notifications"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    kind: Mapped[NotificationKind] = mapped_column(Vocabulary(NotificationKind))
    # Null for a mention in the chat, and for all tasks of an account.
    task_id: Mapped[UUID | None]
    task_title: Mapped[str | None]
    # Who did it, and the event that tells of it; null for a reminder, which nobody did.
    actor_id: Mapped[UUID | None]
    event_id: Mapped[UUID | None]
    # The due time that a reminder is about.
    due_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    read_at: Mapped[datetime | None]
    mailed_at: Mapped[datetime | None]

    __table_args__ = (
        one_of("kind", NotificationKind),
        # Once each, however often the job comes: of an event, of being named by a task, of a due time.
        Index(
            "uq_notifications_event",
            "event_id",
            "user_id",
            unique=True,
            postgresql_where=text("event_id IS NOT NULL"),
        ),
        Index(
            "uq_notifications_mention",
            "task_id",
            "user_id",
            unique=True,
            postgresql_where=text("kind = 'mentioned' AND task_id IS NOT NULL"),
        ),
        Index(
            "uq_notifications_reminder",
            "task_id",
            "user_id",
            "kind",
            "due_at",
            unique=True,
            postgresql_where=text("due_at IS NOT NULL"),
        ),
        Index(None, "user_id", "created_at", "id"),
        Index("ix_notifications_mailed_to", "user_id", "mailed_at", postgresql_where=text("mailed_at IS NOT NULL")),
        Index("ix_notifications_mailed_by", "actor_id", "mailed_at", postgresql_where=text("mailed_at IS NOT NULL")),
        Index("ix_notifications_unread", "user_id", "created_at", "id", postgresql_where=text("read_at IS NULL")),
        Index("ix_notifications_read", "read_at", postgresql_where=text("read_at IS NOT NULL")),
    )
