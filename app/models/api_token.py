from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Identified


class Scope(StrEnum):
    """What a token may be used for: `<noun>:<verb>`. A route that names none is closed to tokens."""

    TASKS_READ = "tasks:read"
    TASKS_WRITE = "tasks:write"
    TASKS_CLAIM = "tasks:claim"
    EVENTS_READ = "events:read"


class ApiToken(Identified, Base):
    """What a program signs in with in the name of an account. One that was revoked has no row."""

    __tablename__ = "api_tokens"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str]
    # SHA-256 in hexadecimal.
    hash: Mapped[str] = mapped_column(unique=True)
    # Texts, for a newer HIVE on the same database may know more of them.
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    # To some minutes.
    last_used_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "user_id", "created_at", "id"), Index(None, "expires_at"))
