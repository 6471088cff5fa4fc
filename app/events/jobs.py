"""The background jobs there are, and asking for one: a row in the transaction that needs it."""

from uuid import UUID

from pydantic import JsonValue
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import WAKES_RELAY
from app.events.types import EventData, TaskDeleted, TaskStatusChanged, TaskUpdated
from app.models import Job, JobName, Task, TaskStatus


async def ask_for_job(session: AsyncSession, name: JobName, **arguments: JsonValue) -> Job:
    """Ask for a job. It's sent to a worker after the commit, and only then."""
    job = Job(name=name, arguments=arguments)
    session.add(job)
    await session.flush()
    session.info[WAKES_RELAY] = True
    return job


async def ask_for_consequences(session: AsyncSession, event: EventData, task: Task) -> None:
    """Ask for the jobs that a change of a task brings with it."""
    for user_id in sorted(_whose_scores_change(event, task)):
        await ask_for_job(session, JobName.RECOMPUTE_IMPACT_SCORE, user_id=str(user_id))


def _whose_scores_change(event: EventData, task: Task) -> set[UUID]:
    if isinstance(event, TaskStatusChanged) and TaskStatus.COMPLETED in (event.old_status, event.new_status):
        # Reopened for somebody else, it no longer counts for who had completed it.
        return {user_id for user_id in (event.assignee_id, event.previous_assignee_id) if user_id}
    is_change_of_points = isinstance(event, TaskUpdated) and "impact_points" in event.changed
    if task.status is TaskStatus.COMPLETED and (is_change_of_points or isinstance(event, TaskDeleted)):
        return {task.assignee_id} if task.assignee_id else set()
    return set()
