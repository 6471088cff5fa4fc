from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.logging import current_request_id
from app.models.base import Base, Identified, Vocabulary, one_of


class AuditAction(StrEnum):
    """What was done to an account by somebody else than its owner: `user.<what>`."""

    CREATED = "user.created"
    DEACTIVATED = "user.deactivated"
    REACTIVATED = "user.reactivated"
    PROMOTED = "user.promoted"
    DEMOTED = "user.demoted"
    PASSWORD_SET = "user.password_set"  # noqa: S105  # What was done, and no secret.
    SIGNED_OUT = "user.signed_out"
    HANDED_OVER = "user.handed_over"


class AuditEntry(Identified, Base):
    """One change that an operator made to an account: what, by whom, when and from where.

    A row is only ever added: a trigger refuses its change and deletion. It has no foreign keys, and names accounts by
    their ids alone, so it outlives them without keeping what they were called.
    """

    __tablename__ = "audit_log"

    action: Mapped[AuditAction] = mapped_column(Vocabulary(AuditAction))
    # Null for who has used the command line on HIVE's own machine.
    actor_id: Mapped[UUID | None]
    subject_id: Mapped[UUID]
    # The client's address, as requests are counted by; empty for the command line.
    address: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    request_id: Mapped[str | None] = mapped_column(default=current_request_id)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        one_of("action", AuditAction),
        Index(None, "created_at", "id"),
        Index(None, "subject_id", "created_at", "id"),
    )
