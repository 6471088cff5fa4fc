from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response, status

from app.api.once import OnceRoute
from app.api.paging import link_next_page
from app.api.problems import READ_VERSION, WRITE_VERSION, responses
from app.core.etags import etag_of, refuse_known
from app.dependencies import (
    AssignmentWriterDep,
    CurrentUser,
    IfNoneMatch,
    Once,
    PagerDep,
    TaskServiceDep,
    TaskWriterDep,
)
from app.models import Task, TaskStatus
from app.schemas.event import Envelope
from app.schemas.fields import PageQuery
from app.schemas.task import (
    TaskAssign,
    TaskCreate,
    TaskDeletedResponse,
    TaskListQuery,
    TaskResponse,
    TaskStatusUpdate,
    TaskUpdate,
)
from app.services.workflow import TRANSITIONS

router = APIRouter(prefix="/tasks", tags=["tasks"], route_class=OnceRoute)


@router.post("", status_code=status.HTTP_201_CREATED, responses=responses(401, 409), dependencies=[Once])
async def create_task(body: TaskCreate, actor: CurrentUser, tasks: TaskServiceDep, response: Response) -> TaskResponse:
    """Make a task: a draft that only its owner sees, or an available one."""
    task = await tasks.create(actor, body)
    response.headers["Location"] = f"/api/v1/tasks/{task.id}"
    return _tagged(task, response)


@router.get("", responses=responses(401))
async def list_tasks(
    query: Annotated[TaskListQuery, Query()],
    actor: CurrentUser,
    tasks: TaskServiceDep,
    pager: PagerDep,
    request: Request,
    response: Response,
) -> list[TaskResponse]:
    """The tasks that one may see. Further pages are in the `Link` header.

    `Hive-Seq` is the position in the log that the answer is true for: whoever reads the events after it misses none.
    `Hive-Epoch` names the history that the position belongs to.
    """
    seq, epoch = await tasks.position()
    response.headers.update({"Hive-Seq": str(seq), "Hive-Epoch": str(epoch)})
    page = await tasks.list_visible(actor, query, pager)
    link_next_page(request, response, page)
    return [TaskResponse.model_validate(task) for task in page.items]


@router.get("/workflow", responses=responses(401))
async def get_workflow(_actor: CurrentUser) -> dict[TaskStatus, list[TaskStatus]]:
    """Which states may follow each state."""
    return {current: list(allowed) for current, allowed in TRANSITIONS.items()}


@router.get("/{task_id}", responses=responses(401, 404) | READ_VERSION)
async def get_task(
    task_id: UUID, actor: CurrentUser, tasks: TaskServiceDep, response: Response, if_none_match: IfNoneMatch = None
) -> TaskResponse:
    task = await tasks.get(actor, task_id)
    refuse_known(if_none_match, task.version)
    return _tagged(task, response)


@router.put("/{task_id}", responses=responses(401, 403, 404) | WRITE_VERSION)
@router.patch("/{task_id}", responses=responses(401, 403, 404) | WRITE_VERSION)
async def update_task(
    task_id: UUID, body: TaskUpdate, actor: CurrentUser, tasks: TaskWriterDep, response: Response
) -> TaskResponse:
    """Change what is given, and nothing else."""
    return _tagged(await tasks.update(actor, task_id, body), response)


@router.delete("/{task_id}", responses=responses(401, 403, 404) | WRITE_VERSION)
async def delete_task(task_id: UUID, actor: CurrentUser, tasks: TaskWriterDep) -> TaskDeletedResponse:
    await tasks.delete(actor, task_id)
    return TaskDeletedResponse()


@router.post("/{task_id}/assign", responses=responses(401, 403, 404, 409) | WRITE_VERSION, dependencies=[Once])
async def assign_task(
    task_id: UUID, body: TaskAssign, actor: CurrentUser, assignments: AssignmentWriterDep, response: Response
) -> TaskResponse:
    """Give the task to a user; it's in progress then."""
    return _tagged(await assignments.assign(actor, task_id, body.user_id), response)


@router.delete("/{task_id}/assign", responses=responses(401, 403, 404, 409) | WRITE_VERSION)
async def unassign_task(
    task_id: UUID, actor: CurrentUser, assignments: AssignmentWriterDep, response: Response
) -> TaskResponse:
    """Take the task back from its holder; it's available again."""
    return _tagged(await assignments.unassign(actor, task_id), response)


@router.post("/{task_id}/claim", responses=responses(401, 404, 409) | WRITE_VERSION, dependencies=[Once])
async def claim_task(
    task_id: UUID, actor: CurrentUser, assignments: AssignmentWriterDep, response: Response
) -> TaskResponse:
    """Take an available task for oneself. One caller wins; the others learn who."""
    return _tagged(await assignments.claim(actor, task_id), response)


@router.put("/{task_id}/status", responses=responses(401, 403, 404, 409) | WRITE_VERSION)
async def change_task_status(
    task_id: UUID, body: TaskStatusUpdate, actor: CurrentUser, tasks: TaskWriterDep, response: Response
) -> TaskResponse:
    """One step of the workflow."""
    return _tagged(await tasks.change_status(actor, task_id, body.status), response)


@router.get("/{task_id}/history", responses=responses(401, 404))
async def get_task_history(
    task_id: UUID,
    query: Annotated[PageQuery, Query()],
    actor: CurrentUser,
    tasks: TaskServiceDep,
    pager: PagerDep,
    request: Request,
    response: Response,
) -> list[Envelope]:
    """The events of the task, newest first. Further pages are in the `Link` header."""
    page = await tasks.history(actor, task_id, query, pager)
    link_next_page(request, response, page)
    return [Envelope.of(event) for event in page.items]


def _tagged(task: Task, response: Response) -> TaskResponse:
    response.headers["ETag"] = etag_of(task.version)
    return TaskResponse.model_validate(task)
