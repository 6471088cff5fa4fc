"""The background jobs there are, and asking for one: a row in the transaction that needs it."""

from datetime import datetime
from typing import cast
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import DateTime, Table, bindparam, func
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from app.core.logging import current_request_id
from app.core.permissions import Actor
from app.db.statements import keep
from app.db.transaction import WAKES_RELAY, Transaction
from app.events.notices import mentions_in, notices_of, text_with_mentions
from app.events.types import EventData, TaskStatusChanged, TaskUpdated
from app.models import Job, JobName, Task, TaskStatus, lane_of

_JOBS = cast("Table", Job.__table__)
_ASKED = ("id", "name", "arguments", "lane", "unique_key", "request_id")
_ASK_ONCE = keep(
    insert(_JOBS)
    .values({name: bindparam(f"new_{name}") for name in _ASKED})
    .values(run_after=func.coalesce(bindparam("new_run_after", type_=DateTime(timezone=True)), func.now()))
    .on_conflict_do_nothing()
    .returning(_JOBS.c.id)
)


def ask_for_job(
    transaction: Transaction, name: JobName, *, run_after: datetime | None = None, **arguments: JsonValue
) -> Job:
    """Ask for a job. It's sent to a worker after the commit and after `run_after`, and only then."""
    job = Job(id=uuid7(), name=name, arguments=arguments, lane=lane_of(name))
    if run_after is not None:
        job.run_after = run_after
    transaction.add(job)
    transaction.info[WAKES_RELAY] = True
    return job


async def ask_once(
    transaction: Transaction, name: JobName, *, key: str, run_after: datetime | None = None, **arguments: JsonValue
) -> bool:
    """Ask for a job unless one with this key was asked for already. Return whether it's a new one."""
    given = {
        "new_id": uuid7(),
        "new_name": name,
        "new_arguments": arguments,
        "new_lane": lane_of(name),
        "new_unique_key": unique_key_of(name, key),
        "new_request_id": current_request_id(),
        "new_run_after": run_after,
    }
    is_new = await transaction.scalar(_ASK_ONCE, given) is not None
    if is_new:
        transaction.info[WAKES_RELAY] = True
    return is_new


def unique_key_of(name: JobName, key: str) -> str:
    return f"{name}/{key}"


def ask_for_consequences(
    transaction: Transaction, event: EventData, event_id: UUID, *, actor: Actor, task: Task | None
) -> None:
    """Ask for the jobs that an event brings with it. Those that need to know it read it from the log."""
    for user_id in sorted(_whose_scores_change(event, task)) if task else ():
        ask_for_job(transaction, JobName.RECOMPUTE_IMPACT_SCORE, user_id=str(user_id))
    notices = notices_of(event, actor_id=actor.id, owner_id=task.owner_id) if task else {}
    if notices or mentions_in(text_with_mentions(event, task)):
        ask_for_job(transaction, JobName.NOTIFY, event_id=str(event_id))


def _whose_scores_change(event: EventData, task: Task) -> set[UUID]:
    if isinstance(event, TaskStatusChanged) and TaskStatus.COMPLETED in (event.old_status, event.new_status):
        # Reopened for somebody else, it no longer counts for who had completed it.
        return {user_id for user_id in (event.assignee_id, event.previous_assignee_id) if user_id}
    is_change_of_points = isinstance(event, TaskUpdated) and "impact_points" in event.changed
    if task.status is TaskStatus.COMPLETED and is_change_of_points:
        return {task.assignee_id} if task.assignee_id else set()
    return set()
