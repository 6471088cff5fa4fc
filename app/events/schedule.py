"""Jobs that come by the clock: each period's is a row that is made once, however many schedulers are up."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import func, select

from app.db.transaction import Transaction
from app.events.jobs import ask_once, unique_key_of
from app.models import Job, JobName

SCHEDULE: Mapping[JobName, timedelta] = {
    JobName.REMIND_OF_DUE_TASKS: timedelta(minutes=1),
    JobName.INDEX_TASKS: timedelta(minutes=1),
    JobName.EMPTY_ENDED_ACCOUNTS: timedelta(hours=1),
    JobName.PURGE_EVENTS: timedelta(hours=1),
    JobName.PURGE_NOTIFICATIONS: timedelta(hours=1),
    JobName.PURGE_IDEMPOTENT_REQUESTS: timedelta(hours=1),
    JobName.PURGE_FINISHED_JOBS: timedelta(hours=1),
}


async def ask_for_scheduled_jobs(transaction: Transaction) -> list[JobName]:
    """Ask for the jobs of the present periods that nobody has asked for yet; which they are.

    Time is PostgreSQL's, so schedulers whose clocks differ agree about the period. One that was missed while none
    was up is not made up for: each of these jobs does all that is to be done when it runs.
    """
    now = await transaction.scalar(select(func.now()))
    assert now is not None
    return [name for name, every in SCHEDULE.items() if await ask_once(transaction, name, key=period_of(now, every))]


async def seconds_since_scheduled(transaction: Transaction) -> float | None:
    """How long ago a scheduler asked for what comes most often; None unless that was for this period or the last one.

    These rows are the signs of life of all schedulers together.
    """
    now = await transaction.scalar(select(func.now()))
    assert now is not None
    name, every = min(SCHEDULE.items(), key=lambda item: item[1])
    keys = [unique_key_of(name, period_of(moment, every)) for moment in (now - every, now)]
    latest = select(func.max(Job.created_at)).where(Job.unique_key.in_(keys))
    asked_at = await transaction.scalar(latest)
    return None if asked_at is None else max((now - asked_at).total_seconds(), 0.0)


def period_of(now: datetime, every: timedelta) -> str:
    """Names the period that `now` lies in, by its beginning."""
    beginning = now.timestamp() // every.total_seconds() * every.total_seconds()
    return datetime.fromtimestamp(beginning, now.tzinfo).isoformat()
