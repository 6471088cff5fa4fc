from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Identified


class EarnedPoints(Identified, Base):
    """The points of a completed task that was deleted. They stay with who earned them."""

    __tablename__ = "earned_points"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    # No foreign key: the task is gone. Each is deleted once.
    task_id: Mapped[UUID] = mapped_column(unique=True)
    category: Mapped[str]
    points: Mapped[int]
    completed_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        CheckConstraint("points >= 0", name="points_not_negative"),
        Index(None, "user_id", "completed_at"),
    )
