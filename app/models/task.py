from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Computed,
    ForeignKey,
    Index,
    SmallInteger,
    text,
)
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column, validates

from app.models.base import Base, Identified, Timestamped, Vocabulary, one_of
from app.search_words import as_tsvector, words_of


class TaskStatus(StrEnum):
    DRAFT = "draft"
    AVAILABLE = "available"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"


class TaskPriority(StrEnum):
    """In the order of urgency."""

    URGENT = "urgent"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


HELD_STATUSES = (TaskStatus.IN_PROGRESS, TaskStatus.COMPLETED)

# As PostgreSQL spells it back, so that autogenerate sees no difference.
_PRIORITY_RANK = (
    "CASE priority WHEN 'urgent'::text THEN 1 WHEN 'high'::text THEN 2 WHEN 'medium'::text THEN 3 ELSE 4 END"
)


class Task(Identified, Timestamped, Base):
    """A piece of work. It has a holder (`assignee_id`) exactly while it's in progress or completed."""

    __tablename__ = "tasks"

    title: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    status: Mapped[TaskStatus] = mapped_column(Vocabulary(TaskStatus), server_default=TaskStatus.DRAFT)
    category: Mapped[str] = mapped_column(server_default="general")
    priority: Mapped[TaskPriority] = mapped_column(Vocabulary(TaskPriority), server_default=TaskPriority.MEDIUM)
    priority_rank: Mapped[int] = mapped_column(SmallInteger, Computed(_PRIORITY_RANK, persisted=True))
    impact_points: Mapped[int] = mapped_column(server_default=text("0"))
    due_at: Mapped[datetime | None]
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    assignee_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    completed_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(server_default=text("1"))
    # Counts the times of holding the task. Who holds it knows the present number, and who has lost it an older one.
    lease_token: Mapped[int] = mapped_column(server_default=text("0"))
    # Until when its holder has it, and for how long at a time; null is without end.
    lease_expires_at: Mapped[datetime | None]
    lease_seconds: Mapped[int | None]
    # What the task is found by, which this model sets with the texts. Null until a job has seen to it, where something
    # else has written them.
    words: Mapped[str | None] = mapped_column(TSVECTOR, deferred=True)

    __table_args__ = (
        one_of("status", TaskStatus),
        one_of("priority", TaskPriority),
        CheckConstraint("impact_points >= 0", name="impact_points_not_negative"),
        CheckConstraint(
            "(assignee_id IS NOT NULL) = (status IN ('in_progress', 'completed'))",
            name="held_while_worked_on",
        ),
        CheckConstraint("(lease_expires_at IS NULL) = (lease_seconds IS NULL)", name="lease_whole"),
        CheckConstraint("lease_expires_at IS NULL OR status = 'in_progress'", name="lease_while_worked_on"),
        CheckConstraint("(completed_at IS NOT NULL) = (status = 'completed')", name="completed_at_when_completed"),
        # One for each order of the list (the id breaks ties), read in both directions.
        Index(None, "created_at", "id"),
        Index(None, "updated_at", "id"),
        Index(None, "due_at", "id"),
        Index(None, "priority_rank", "id"),
        Index("ix_tasks_words", "words", postgresql_using="gin"),
        Index("ix_tasks_without_words", "id", postgresql_where=text("words IS NULL")),
        # What is claimed next, and whose lease may have run out.
        Index(
            "ix_tasks_claimable",
            "priority_rank",
            "due_at",
            "created_at",
            "id",
            postgresql_where=text("status = 'available'"),
        ),
        Index("ix_tasks_lease_expires_at", "lease_expires_at", postgresql_where=text("lease_expires_at IS NOT NULL")),
        # And for the filters that pick few of many.
        Index(None, "owner_id", "created_at", "id"),
        Index(None, "assignee_id", "created_at", "id"),
        Index(None, "status", "created_at", "id"),
        Index(None, "category", "created_at", "id"),
    )

    @validates("title", "description")
    def _note_words(self, name: str, value: str) -> str:
        """Set the words with the text that they are of, so that no writer can forget them."""
        # A text that stays empty, as the description of many new tasks, has no words. To read the others costs as well.
        if value or getattr(self, name):
            other = self.description if name == "title" else self.title
            self.words = as_tsvector(words_of(value, other or ""))
        return value
