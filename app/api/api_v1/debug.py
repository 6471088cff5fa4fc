from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, status
from pydantic import BaseModel

from app.api.once import OnceRoute
from app.api.problems import responses
from app.dependencies import CurrentAdmin, OnceByAdmin, SessionDep
from app.events.jobs import ask_for_job
from app.models import JobName
from app.schemas.fields import Optionally, Strict, TestMessage

router = APIRouter(prefix="/debug", tags=["debug"], route_class=OnceRoute)


class TestJobRequest(Strict):
    message: Optionally[TestMessage] = "HIVE's worker is alive"


class TestJobResponse(BaseModel):
    task_id: UUID


DEFAULT_REQUEST = TestJobRequest()


@router.post(
    "/run_test_celery_task",
    status_code=status.HTTP_202_ACCEPTED,
    responses=responses(401, 403, 409),
    dependencies=[OnceByAdmin],
)
async def run_test_celery_task(
    _admin: CurrentAdmin, session: SessionDep, body: Annotated[TestJobRequest, Body()] = DEFAULT_REQUEST
) -> TestJobResponse:
    """Have a worker print a message. The answer is the id of the Celery task."""
    job = ask_for_job(session, JobName.TEST, message=body.message)
    return TestJobResponse(task_id=job.id)
