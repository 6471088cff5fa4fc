from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, func
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class IdempotentRequest(Base):
    """A request that was done under an `Idempotency-Key`, and its answer, written in the transaction of its effect."""

    __tablename__ = "idempotent_requests"

    # Who asked; the nil UUID for somebody without an account. No foreign key: it lasts a day.
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    method: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    # Under the server's key: a body may have a password in it, which a plain hash would give away to a guess.
    body_hash: Mapped[str]
    status: Mapped[int]
    headers: Mapped[dict[str, Any]]
    body: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (Index(None, "created_at"),)
