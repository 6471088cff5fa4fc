"""The background jobs there are, and asking for one: a row in the transaction that needs it."""

from enum import StrEnum
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import WAKES_RELAY
from app.events.types import EventData, TaskDeleted, TaskStatusChanged, TaskUpdated
from app.models import Job, Task, TaskStatus


class JobName(StrEnum):
    """Each is the name of a Celery task in `app/workers/tasks.py`."""

    TEST = "test_celery_task"
    RECOMPUTE_IMPACT_SCORE = "recompute_impact_score"
    PURGE_FINISHED_JOBS = "purge_finished_jobs"


async def ask_for_job(session: AsyncSession, name: JobName, **arguments: JsonValue) -> Job:
    """Ask for a job. It's sent to a worker after the commit, and only then."""
    job = Job(name=name, arguments=arguments)
    session.add(job)
    await session.flush()
    session.info[WAKES_RELAY] = True
    return job


async def ask_for_consequences(session: AsyncSession, event: EventData, task: Task) -> None:
    """Ask for the jobs that a change of a task brings with it."""
    if user_id := _whose_score_changes(event, task):
        await ask_for_job(session, JobName.RECOMPUTE_IMPACT_SCORE, user_id=str(user_id))


def _whose_score_changes(event: EventData, task: Task) -> UUID | None:
    is_step_over_completion = isinstance(event, TaskStatusChanged) and TaskStatus.COMPLETED in (
        event.old_status,
        event.new_status,
    )
    is_change_of_completed = task.status is TaskStatus.COMPLETED and (
        isinstance(event, TaskDeleted) or (isinstance(event, TaskUpdated) and "impact_points" in event.changed)
    )
    return task.assignee_id if is_step_over_completion or is_change_of_completed else None
