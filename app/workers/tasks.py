"""The jobs as Celery sees them: thin shells around services.

A function under `@job` is the whole of a job's effect: it gets a session, and what it writes is committed together
with the mark that the job is done. It's `async`, and can be called and tested without Celery.
"""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from celery import Task
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import JobName
from app.services.job_service import mark_done, perform, purge_done_jobs
from app.services.user_service import UserService
from app.workers.celery_app import celery_app
from app.workers.process import process

JobBody = Callable[..., Awaitable[None]]


def job(name: JobName) -> Callable[[JobBody], Any]:
    """Make a Celery task of an async function `(session, **arguments)`.

    The Celery id of the message is the id of the job's row, which is how the shell finds the row.
    """

    def decorate(body: JobBody) -> Any:
        def run(self: "Task[..., None]", /, **arguments: Any) -> None:
            job_id = UUID(self.request.id)

            async def effect(session: AsyncSession) -> None:
                await body(session, **arguments)

            process.run(perform(process.database, job_id, effect))

        run.__doc__ = body.__doc__
        return celery_app.task(name=name.value, bind=True, ignore_result=True)(run)

    return decorate


@celery_app.task(name=JobName.TEST.value)
def test_celery_task(message: str = "HIVE's worker is alive") -> str:
    """Print a message and return it, to see that a worker works.

    Called directly, by `.delay()`, or through its row in the jobs table; only then is there a row to mark as done.
    """
    print(message)
    if test_celery_task.request.id is not None:
        process.run(_mark_done(UUID(test_celery_task.request.id)))
    return message


# The name is part of HIVE's contract, and pytest would take it for a test.
test_celery_task.__test__ = False  # type: ignore[attr-defined]


async def _mark_done(job_id: UUID) -> None:
    async with process.database.unit_of_work() as session:
        await mark_done(session, job_id)


@job(JobName.RECOMPUTE_IMPACT_SCORE)
async def recompute_impact_score(session: AsyncSession, *, user_id: str) -> None:
    await UserService(session).recompute_impact_score(UUID(user_id))


@celery_app.task(name=JobName.PURGE_FINISHED_JOBS.value, ignore_result=True)
def purge_finished_jobs() -> None:
    """Runs by the schedule and has no row: done twice or late, it does no harm."""
    process.run(_purge())


async def _purge() -> None:
    async with process.database.unit_of_work() as session:
        await purge_done_jobs(session)
