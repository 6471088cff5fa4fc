from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, validates

from app.core.addresses import address_key
from app.models.base import Base, Identified, Timestamped

_PERSON_OR_AGENT = (
    "(owner_id IS NULL AND emptied_at IS NULL) = (email IS NOT NULL)"
    " AND (owner_id IS NULL AND emptied_at IS NULL) = (password_hash IS NOT NULL)"
    " AND (owner_id IS NULL OR NOT (is_admin OR mail_notifications))"
)


class User(Identified, Timestamped, Base):
    """An account. It's never deleted, only deactivated and later emptied: events and finished tasks go on naming it.

    One with an owner is an agent's. It has neither address nor password, signs in by token only, and ends with its
    owner.
    """

    __tablename__ = "users"

    owner_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    # Null for agents and for emptied accounts. They are asked for of people alone, so they are not optional here.
    email: Mapped[str] = mapped_column(nullable=True)
    # What the address is looked up by, and unique by. It follows from the address; nobody else sets it.
    email_key: Mapped[str] = mapped_column(nullable=True)
    # Somebody who reads its mail wants to. Until then it gets nothing but the mail that asks for this.
    email_confirmed_at: Mapped[datetime | None]
    password_hash: Mapped[str] = mapped_column(nullable=True)
    display_name: Mapped[str]
    role: Mapped[str] = mapped_column(server_default="")
    skills: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    impact_score: Mapped[int] = mapped_column(server_default=text("0"))
    # An agent's is not asked for: it is where its owner is.
    time_zone: Mapped[str] = mapped_column(server_default="UTC")
    version: Mapped[int] = mapped_column(server_default=text("1"))
    mail_notifications: Mapped[bool] = mapped_column(server_default=text("true"))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    is_admin: Mapped[bool] = mapped_column(server_default=text("false"))
    # When it ended, for as long as it has.
    deactivated_at: Mapped[datetime | None]
    # When name, address and password were taken from it; from then on it can't begin anew.
    emptied_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("impact_score >= 0", name="impact_score_not_negative"),
        CheckConstraint(_PERSON_OR_AGENT, name="person_or_agent"),
        CheckConstraint("(email IS NULL) = (email_key IS NULL)", name="email_has_key"),
        CheckConstraint("emptied_at IS NULL OR NOT is_active", name="emptied_has_ended"),
        UniqueConstraint("email_key"),
        Index("ix_users_directory", "display_name", "id", postgresql_where=text("is_active")),
        Index("ix_users_ended", "deactivated_at", postgresql_where=text("NOT is_active AND emptied_at IS NULL")),
        Index(None, "created_at", "id"),
        Index("ix_users_agents", "owner_id", "created_at", "id", postgresql_where=text("owner_id IS NOT NULL")),
    )

    @validates("email")
    def _derive_key(self, _name: str, email: str | None) -> str | None:
        # SQLAlchemy's stubs don't let a column be None that its readers never find None.
        self.email_key = address_key(email) if email is not None else None  # type: ignore[assignment]
        return email

    @property
    def is_agent(self) -> bool:
        return self.owner_id is not None
