from typing import Annotated, Any
from uuid import UUID

from fastapi import Body, Query, Request, Response, status

from app.api.claiming import MAY_MAKE_READY, ClaimNext
from app.api.once import OnceByClaimerOfTasks, OnceByWriterOfTasks, RequestIdentityOfClaimer, hash_of_body
from app.api.paging import link_next_page
from app.api.problems import READ_VERSION, WRITE_VERSION, responses
from app.api.routing import api_router
from app.api.task_answers import change_answer, location_of, task_answer, tasks_answer
from app.dependencies import (
    AssignmentWriterDep,
    ClaimerOfTasks,
    ClaimerSignIn,
    ClaimServiceDep,
    ClientDeparture,
    IfNoneMatch,
    LeaseServiceDep,
    NewTaskDep,
    PagerDep,
    ReaderOfTasks,
    StateDep,
    TaskReadsDep,
    TaskServiceDep,
    TaskWriterDep,
    WriterOfTasks,
)
from app.models import TaskStatus
from app.schemas.event import Envelope
from app.schemas.fields import Open, PageQuery
from app.schemas.task import (
    LeaseRenewal,
    TaskAssign,
    TaskClaim,
    TaskClaimNext,
    TaskCreate,
    TaskDeletedResponse,
    TaskListQuery,
    TaskResponse,
    TaskStatusUpdate,
    TaskUpdate,
)
from app.services.workflow import TRANSITIONS
from app.websockets.attempts import try_until_had

NOTHING_READY: dict[int | str, dict[str, Any]] = {204: {"description": "No task is ready."}}
FOR_GOOD, AS_LONG_AS_BEFORE, ANY_TASK = TaskClaim(), LeaseRenewal(), TaskClaimNext()

router = api_router("/tasks", tag="tasks")


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    responses=responses(401, 403, 409),
    dependencies=[OnceByWriterOfTasks],
    response_model=TaskResponse,
)
async def create_task(
    body: TaskCreate, actor: WriterOfTasks, tasks: NewTaskDep, state: StateDep, request: Request
) -> Response:
    """Make a task: a draft that only its owner sees, or an available one."""
    await state.open_tasks.require_room(actor.id)
    task = await tasks.create(actor, body)
    location = {"Location": location_of(task, request.scope)}
    return change_answer(task, actor, status=status.HTTP_201_CREATED, headers=location)


@router.get("", responses=responses(401, 403, 429), response_model=list[TaskResponse])
async def list_tasks(
    query: Annotated[TaskListQuery, Query()], actor: ReaderOfTasks, tasks: TaskReadsDep, request: Request
) -> Response:
    """The tasks that one may see. Further pages are in the `Link` header.

    `Hive-Seq` is the position in the log that the answer is true for: reading the events after it misses none.
    `Hive-Epoch` names the history that the position belongs to.
    """
    return tasks_answer(await tasks.list(actor, query), request.scope)


@router.post("/claim-next", responses=NOTHING_READY | responses(401, 403, 409, 429), response_model=TaskResponse)
async def claim_next_task(
    request: Request,
    signed_in: ClaimerSignIn,
    state: StateDep,
    departure: ClientDeparture,
    identity: RequestIdentityOfClaimer,
    body: Annotated[TaskClaimNext, Body()] = ANY_TASK,
) -> Response:
    """Take the first task that is ready: by priority, then due time, then age. With `wait`, wait for one."""
    limits, body_hash = state.limits, await hash_of_body(request)
    claiming = ClaimNext(
        state.database, limits.claims, limits.claims_by_words, signed_in.actor, body, identity, body_hash
    )
    taken = await try_until_had(
        state.sockets, signed_in, claiming.attempt, news=MAY_MAKE_READY, seconds=body.wait, departure=departure
    )
    return taken or Response(status_code=status.HTTP_204_NO_CONTENT)


@router.get("/workflow", responses=responses(401, 403))
async def get_workflow(_actor: ReaderOfTasks) -> dict[Open[TaskStatus], list[Open[TaskStatus]]]:
    """Which states may follow each state."""
    return {current: list(allowed) for current, allowed in TRANSITIONS.items()}


@router.get("/{task_id:uuid}", responses=responses(401, 403, 404) | READ_VERSION, response_model=TaskResponse)
async def get_task(
    task_id: UUID, actor: ReaderOfTasks, tasks: TaskReadsDep, if_none_match: IfNoneMatch = None
) -> Response:
    return task_answer(await tasks.get(actor, task_id), if_none_match=if_none_match)


@router.put(
    "/{task_id:uuid}",
    name="put_task",
    responses=responses(401, 403, 404, 409) | WRITE_VERSION,
    response_model=TaskResponse,
)
@router.patch("/{task_id:uuid}", responses=responses(401, 403, 404, 409) | WRITE_VERSION, response_model=TaskResponse)
async def update_task(task_id: UUID, body: TaskUpdate, actor: WriterOfTasks, tasks: TaskWriterDep) -> Response:
    """Change what is given, and nothing else.

    `status` is a step by the same rules as `PUT /tasks/{id}/status`; the holder may take it too, if they send nothing
    else. Both happen, or neither. The edit and the step are two versions, with an event each. `owner_id` hands the task
    over to another account; a draft is seen by its new owner alone then.
    """
    return change_answer(await tasks.update(actor, task_id, body), actor)


@router.delete("/{task_id:uuid}", responses=responses(401, 403, 404, 409) | WRITE_VERSION)
async def delete_task(task_id: UUID, actor: WriterOfTasks, tasks: TaskWriterDep) -> TaskDeletedResponse:
    await tasks.delete(actor, task_id)
    return TaskDeletedResponse()


@router.post(
    "/{task_id:uuid}/assign",
    responses=responses(401, 403, 404, 409) | WRITE_VERSION,
    dependencies=[OnceByWriterOfTasks],
    response_model=TaskResponse,
)
async def assign_task(
    task_id: UUID, body: TaskAssign, actor: WriterOfTasks, assignments: AssignmentWriterDep
) -> Response:
    """Give the task to a user; it's in progress then."""
    return change_answer(await assignments.assign(actor, task_id, body.user_id), actor)


@router.delete(
    "/{task_id:uuid}/assign", responses=responses(401, 403, 404, 409) | WRITE_VERSION, response_model=TaskResponse
)
async def unassign_task(task_id: UUID, actor: WriterOfTasks, assignments: AssignmentWriterDep) -> Response:
    """Take the task back from its holder; it's available again."""
    return change_answer(await assignments.unassign(actor, task_id), actor)


@router.post(
    "/{task_id:uuid}/claim",
    responses=responses(401, 403, 404, 409) | WRITE_VERSION,
    dependencies=[OnceByClaimerOfTasks],
    response_model=TaskResponse,
)
async def claim_task(
    task_id: UUID,
    actor: ClaimerOfTasks,
    claims: ClaimServiceDep,
    body: Annotated[TaskClaim, Body()] = FOR_GOOD,
) -> Response:
    """Take an available task for oneself, for a time or for good. One caller wins; the others learn who."""
    task = await claims.claim(actor, task_id, lease_seconds=body.lease_seconds)
    return change_answer(task, actor)


@router.post(
    "/{task_id:uuid}/lease",
    responses=responses(401, 403, 404, 409),
    dependencies=[OnceByClaimerOfTasks],
    response_model=TaskResponse,
)
async def renew_lease(
    task_id: UUID,
    actor: ClaimerOfTasks,
    leases: LeaseServiceDep,
    body: Annotated[LeaseRenewal, Body()] = AS_LONG_AS_BEFORE,
) -> Response:
    """Go on holding a task that one has claimed for a time."""
    task = await leases.renew(actor, task_id, lease_seconds=body.lease_seconds)
    return change_answer(task, actor)


@router.put(
    "/{task_id:uuid}/status", responses=responses(401, 403, 404, 409) | WRITE_VERSION, response_model=TaskResponse
)
async def change_task_status(
    task_id: UUID, body: TaskStatusUpdate, actor: WriterOfTasks, tasks: TaskWriterDep
) -> Response:
    """One step of the workflow."""
    return change_answer(await tasks.change_status(actor, task_id, body.status), actor)


@router.get("/{task_id:uuid}/history", responses=responses(401, 403, 404))
async def get_task_history(
    task_id: UUID,
    query: Annotated[PageQuery, Query()],
    actor: ReaderOfTasks,
    tasks: TaskServiceDep,
    pager: PagerDep,
    request: Request,
    response: Response,
) -> list[Envelope]:
    """The events of the task, newest first. Further pages are in the `Link` header."""
    page = await tasks.history(actor, task_id, query, pager)
    link_next_page(request, response, page)
    return [Envelope.of(event) for event in page.items]
