from typing import Annotated
from uuid import UUID

from fastapi import Query, Request, Response

from app.api.paging import link_next_page
from app.api.problems import WRITE_VERSION, responses
from app.api.routing import api_router
from app.api.task_answers import change_answer
from app.dependencies import BlockerServiceDep, BlockerWriterDep, PagerDep, ReaderOfTasks, WriterOfTasks
from app.schemas.fields import PageQuery
from app.schemas.task import TaskResponse

router = api_router("/tasks/{task_id:uuid}/blockers", tag="tasks")


@router.get("", responses=responses(401, 403, 404))
async def list_blockers(
    task_id: UUID,
    query: Annotated[PageQuery, Query()],
    actor: ReaderOfTasks,
    blockers: BlockerServiceDep,
    pager: PagerDep,
    request: Request,
    response: Response,
) -> list[TaskResponse]:
    """What the task waits for, and has waited for, as far as one may see it. Further pages are in the `Link` header."""
    page = await blockers.list_visible(actor, task_id, query, pager)
    link_next_page(request, response, page)
    return [TaskResponse.of(task, viewer=actor.id) for task in page.items]


@router.put("/{blocker_id:uuid}", responses=responses(401, 403, 404, 409) | WRITE_VERSION, response_model=TaskResponse)
async def add_blocker(task_id: UUID, blocker_id: UUID, actor: WriterOfTasks, blockers: BlockerWriterDep) -> Response:
    """Make the task wait for another one: it can't start before that is completed."""
    return change_answer(await blockers.add(actor, task_id, blocker_id), actor)


@router.delete(
    "/{blocker_id:uuid}", responses=responses(401, 403, 404, 409) | WRITE_VERSION, response_model=TaskResponse
)
async def remove_blocker(task_id: UUID, blocker_id: UUID, actor: WriterOfTasks, blockers: BlockerWriterDep) -> Response:
    """Remove a blocker of the task."""
    return change_answer(await blockers.remove(actor, task_id, blocker_id), actor)
