from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class EventTicket(Base):
    """What opens one stream of events in place of a token. One that was used has no row.

    It goes with the session or the API token that it was got with.
    """

    __tablename__ = "event_tickets"

    # SHA-256 in hexadecimal.
    hash: Mapped[str] = mapped_column(primary_key=True)
    session_id: Mapped[UUID | None] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"))
    api_token_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_tokens.id", ondelete="CASCADE"))
    expires_at: Mapped[datetime]
    # When the access token ends that it was got with; None for an API token, whose row says it.
    access_expires_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("num_nonnulls(session_id, api_token_id) = 1", name="one_sign_in"),
        Index(None, "session_id"),
        Index(None, "api_token_id"),
        Index(None, "expires_at"),
    )
