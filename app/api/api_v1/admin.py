from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.api.paging import link_next_page
from app.api.problems import responses
from app.dependencies import CurrentAdmin, JobAdminDep, PagerDep
from app.schemas.job import JobListQuery, JobResponse

router = APIRouter(prefix="/admin", tags=["admin"])


@router.get("/jobs", responses=responses(401, 403))
async def list_jobs(
    query: Annotated[JobListQuery, Query()],
    _admin: CurrentAdmin,
    jobs: JobAdminDep,
    pager: PagerDep,
    request: Request,
    response: Response,
) -> list[JobResponse]:
    """Background jobs, newest first. Further pages are in the `Link` header."""
    page = await jobs.list_jobs(query, pager)
    link_next_page(request, response, page)
    return [JobResponse.model_validate(job) for job in page.items]
