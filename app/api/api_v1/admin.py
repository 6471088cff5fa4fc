from typing import Annotated

from fastapi import Query, Request, Response

from app.api.paging import link_next_page
from app.api.problems import responses
from app.api.routing import api_router
from app.dependencies import AuditLogDep, CurrentAdmin, JobAdminDep, PagerDep
from app.schemas.admin import AuditEntryResponse, AuditQuery
from app.schemas.job import JobListQuery, JobResponse

router = api_router("/admin", tag="admin")


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


@router.get("/audit", responses=responses(401, 403))
async def list_audit_entries(
    query: Annotated[AuditQuery, Query()],
    _admin: CurrentAdmin,
    audit: AuditLogDep,
    pager: PagerDep,
    request: Request,
    response: Response,
) -> list[AuditEntryResponse]:
    """What operators have done to accounts, newest first. Further pages are in the `Link` header."""
    page = await audit.list_entries(query, pager)
    link_next_page(request, response, page)
    return [AuditEntryResponse.model_validate(entry) for entry in page.items]
