from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class SignInChange(Base):
    """That a token of this session, API token or account may say something else now, or nothing any more.

    Triggers of these three tables write it, so that no way to change them can forget to. `xact` is the number of the
    transaction: by it a reader knows what it can't have seen yet.
    """

    __tablename__ = "sign_in_changes"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    subject: Mapped[UUID]
    xact: Mapped[int] = mapped_column(server_default=text("pg_current_xact_id()::text::bigint"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (Index(None, "xact"),)
