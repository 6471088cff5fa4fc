from typing import Annotated
from uuid import UUID

from fastapi import Body, status
from pydantic import BaseModel

from app.api.once import OnceByAdmin
from app.api.problems import responses
from app.api.routing import api_router
from app.dependencies import CurrentAdmin, TransactionDep
from app.events.jobs import ask_for_job
from app.models import JobName
from app.schemas.fields import Optionally, Strict, TestMessage

router = api_router("/debug", tag="debug")


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
    _admin: CurrentAdmin, transaction: TransactionDep, body: Annotated[TestJobRequest, Body()] = DEFAULT_REQUEST
) -> TestJobResponse:
    """Ask a worker to print a message. The answer is the id of the Celery task."""
    job = ask_for_job(transaction, JobName.TEST, message=body.message)
    return TestJobResponse(task_id=job.id)
