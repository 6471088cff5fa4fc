from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Identified


class UserTaskAssociation(Identified, Base):
    """A time during which a user held a task; open while `released_at` is null."""

    __tablename__ = "user_task_associations"

    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    assigned_by: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    assigned_at: Mapped[datetime] = mapped_column(server_default=func.now())
    released_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "uq_user_task_associations_open",
            "task_id",
            unique=True,
            postgresql_where=text("released_at IS NULL"),
        ),
        Index(None, "task_id", "assigned_at"),
        Index(None, "user_id", "assigned_at"),
    )
