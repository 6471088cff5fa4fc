from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Identified


class UserSession(Identified, Base):
    """A sign-in with a password, for as long as it's kept up. One that has ended has no row.

    A refresh token has two halves: one that all of the session have in common, and one of its own. So any that was
    ever given is known as one of this session, though only the hashes of the last two are kept.
    """

    __tablename__ = "sessions"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    # SHA-256 in hexadecimal, all three.
    family_hash: Mapped[str] = mapped_column(unique=True)
    current_hash: Mapped[str]
    previous_hash: Mapped[str | None]
    user_agent: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # When the current token was given.
    refreshed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]

    __table_args__ = (Index(None, "user_id", "created_at", "id"), Index(None, "expires_at"))
