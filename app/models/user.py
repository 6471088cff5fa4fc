from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Identified, Timestamped


class User(Identified, Timestamped, Base):
    """An account. It's never deleted, only deactivated: events and finished tasks go on naming it."""

    __tablename__ = "users"

    email: Mapped[str]
    display_name: Mapped[str]
    role: Mapped[str] = mapped_column(server_default="")
    skills: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    impact_score: Mapped[int] = mapped_column(server_default=text("0"))
    password_hash: Mapped[str]
    version: Mapped[int] = mapped_column(server_default=text("1"))
    mail_notifications: Mapped[bool] = mapped_column(server_default=text("true"))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    is_admin: Mapped[bool] = mapped_column(server_default=text("false"))

    __table_args__ = (
        CheckConstraint("impact_score >= 0", name="impact_score_not_negative"),
        Index("uq_users_email_lower", text("lower(email)"), unique=True),
        Index("ix_users_directory", "display_name", "id", postgresql_where=text("is_active")),
    )
