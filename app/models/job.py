from collections.abc import Mapping
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any

from sqlalchemy import Boolean, CheckConstraint, ColumnElement, Index, SmallInteger, func, literal_column, or_, text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.logging import current_request_id
from app.models.base import Base, Identified, Vocabulary, one_of


class JobName(StrEnum):
    """Each is the name of a Celery task in `app/workers/tasks.py`."""

    TEST = "test_celery_task"
    RECOMPUTE_IMPACT_SCORE = "recompute_impact_score"
    NOTIFY = "notify"
    SEND_MAIL = "send_mail"
    SEND_ACCOUNT_MAIL = "send_account_mail"
    SEND_CONFIRMATION = "send_confirmation"
    SEND_MAIL_DIGEST = "send_mail_digest"
    TELL_OF_FAILED_SIGN_INS = "tell_of_failed_sign_ins"
    EXPIRE_LEASE = "expire_lease"
    GIVE_BACK_TASKS = "give_back_tasks"
    MARK_NOTIFICATIONS_READ = "mark_notifications_read"
    REMIND_OF_DUE_TASKS = "remind_of_due_tasks"
    INDEX_TASKS = "index_tasks"
    EMPTY_ENDED_ACCOUNTS = "empty_ended_accounts"
    PURGE_EVENTS = "purge_events"
    PURGE_NOTIFICATIONS = "purge_notifications"
    PURGE_IDEMPOTENT_REQUESTS = "purge_idempotent_requests"
    PURGE_FINISHED_JOBS = "purge_finished_jobs"


class Lane(IntEnum):
    """What goes first, and what must not hold up the others."""

    FIRST = 0  # Somebody waits for it: the end of a lease, the next piece of what was begun.
    USUAL = 1
    OUTSIDE = 2  # Its effect is outside of the database, where a server may be slow. It has workers of its own.


LANES: Mapping[str, Lane] = {
    JobName.EXPIRE_LEASE: Lane.FIRST,
    # Each piece would else wait for the notifications of the one before it.
    JobName.GIVE_BACK_TASKS: Lane.FIRST,
    JobName.MARK_NOTIFICATIONS_READ: Lane.FIRST,
    JobName.SEND_MAIL: Lane.OUTSIDE,
    JobName.SEND_ACCOUNT_MAIL: Lane.OUTSIDE,
    JobName.SEND_CONFIRMATION: Lane.OUTSIDE,
    JobName.SEND_MAIL_DIGEST: Lane.OUTSIDE,
}


def lane_of(name: str) -> Lane:
    return LANES.get(name, Lane.USUAL)


class JobState(StrEnum):
    WAITING = "waiting"  # Asked for, or to be tried again; the relay sends it once `run_after` has come.
    SENT = "sent"  # Given to Celery; sent again when it's not done by `run_after`.
    DONE = "done"
    DEAD = "dead"  # Failed too often; `last_error` says how.


_UNFINISHED = "state IN ('waiting', 'sent')"


class Job(Identified, Base):
    """Work that was asked for in the transaction that needs it. This row is the truth, Celery the carrier."""

    __tablename__ = "jobs"

    name: Mapped[str]
    arguments: Mapped[dict[str, Any]]
    # A number of `Lane`. It is said when the job is asked for; an old process during an upgrade does not.
    lane: Mapped[int] = mapped_column(SmallInteger, server_default=text("1"))
    # A second job of the same key is not made, such as that of the same minute by another scheduler.
    unique_key: Mapped[str | None]
    state: Mapped[JobState] = mapped_column(Vocabulary(JobState), server_default=JobState.WAITING)
    sends: Mapped[int] = mapped_column(server_default=text("0"))
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    # How often an effect outside of the database may have been had without anybody knowing.
    unknown_outcomes: Mapped[int] = mapped_column(server_default=text("0"))
    run_after: Mapped[datetime] = mapped_column(server_default=func.now())
    # For a job whose effect is outside of the database: until then nobody else begins it.
    held_until: Mapped[datetime | None]
    last_error: Mapped[str | None]
    # The request that it came from, to follow one through the logs.
    request_id: Mapped[str | None] = mapped_column(default=current_request_id)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    done_at: Mapped[datetime | None]

    __table_args__ = (
        one_of("name", JobName),
        one_of("state", JobState),
        CheckConstraint("(done_at IS NOT NULL) = (state = 'done')", name="done_at_when_done"),
        Index("ix_jobs_due_by_lane", "lane", "run_after", postgresql_where=text(_UNFINISHED)),
        Index("ix_jobs_finished", "done_at", postgresql_where=text("state = 'done'")),
        Index("uq_jobs_unique_key", "unique_key", unique=True, postgresql_where=text("unique_key IS NOT NULL")),
        Index(None, "created_at", "id"),
    )


# With its values in the text, so that PostgreSQL knows the index of such rows to serve, and plans a statement once.
IS_UNFINISHED: ColumnElement[bool] = literal_column(f"jobs.{_UNFINISHED}", Boolean())
# Nobody is at its effect outside of the database.
IS_FREE: ColumnElement[bool] = or_(Job.held_until.is_(None), Job.held_until <= func.now())
