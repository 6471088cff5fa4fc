"""The changes of tasks that are made most, as quick routes: those without a condition and without a key."""

import json
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Scope

from app.api.quick_routes import AN_ID, TASKS, Call, QuickRoute
from app.api.task_answers import change_answer, location_of
from app.core.permissions import Actor
from app.core.time_zones import Day
from app.models import Scope as TokenScope
from app.models import Task
from app.schemas.task import TaskAssign, TaskClaim, TaskCreate, TaskStatusUpdate, TaskUpdate
from app.services import AssignmentService, ClaimService, TaskService
from app.session import Session

Model = TypeVar("Model", bound=BaseModel)

_CHANGE = re.compile(f"{TASKS}/{AN_ID}(/[a-z]+|)")
JSON = b"application/json"
# What asks for more than the change itself: that it's made once, or of this version alone, or by this hold.
CONDITIONS = frozenset({b"idempotency-key", b"if-match", b"hive-lease-token"})


def _is_plain(scope: Scope) -> bool:
    given = dict(reversed(scope["headers"]))
    # Of a header that comes twice the first counts, as elsewhere.
    return not scope["query_string"] and given.get(b"content-type") == JSON and CONDITIONS.isdisjoint(given)


def _recognize_creation(scope: Scope) -> bool | None:
    return True if scope["path"] == TASKS and _is_plain(scope) else None


def _recognize_change(scope: Scope, *, of: str) -> UUID | None:
    found = _CHANGE.fullmatch(scope["path"])
    if found is None or found[2] != of or not _is_plain(scope) or scope["app"].state.hive.settings.require_if_match:
        return None
    return UUID(found[1])


def _reader_of(model: type[Model]) -> Callable[[bytes], Model]:
    # As the framework does it, in two steps: pydantic's own reading of JSON takes and refuses other things.
    return lambda content: model.model_validate(json.loads(content))


async def _create(call: Call[bool, TaskCreate]) -> Response:
    # The task, its event and what follows from it are written together, and nothing was read before; unless it has to
    # be read where a day ends.
    database = call.state.database
    await call.state.open_tasks.require_room(call.actor.id)
    async with (
        database.quick_unit_of_work() if isinstance(call.body.due_at, Day) else database.quick_statement() as session
    ):
        task = await TaskService(session).create(call.actor, call.body)
    return change_answer(task, call.actor, status=201, headers={"Location": location_of(task, call.scope)})


def _change(
    method: str,
    of: str,
    model: type[Model],
    make: Callable[[Session, Actor, UUID, Model], Awaitable[Task]],
    *,
    needs: TokenScope = TokenScope.TASKS_WRITE,
) -> QuickRoute[UUID, Model]:
    async def answer(call: Call[UUID, Model]) -> Response:
        async with call.state.database.quick_unit_of_work() as session:
            task = await make(session, call.actor, call.asked, call.body)
            return change_answer(task, call.actor)

    return QuickRoute(
        method,
        f"{TASKS}/{{task_id}}{of}",
        needs=needs,
        recognize=partial(_recognize_change, of=of),
        read=_reader_of(model),
        answer=answer,
    )


def _update(session: Session, actor: Actor, task_id: UUID, body: TaskUpdate) -> Awaitable[Task]:
    return TaskService(session).update(actor, task_id, body)


def _change_status(session: Session, actor: Actor, task_id: UUID, body: TaskStatusUpdate) -> Awaitable[Task]:
    return TaskService(session).change_status(actor, task_id, body.status)


def _assign(session: Session, actor: Actor, task_id: UUID, body: TaskAssign) -> Awaitable[Task]:
    return AssignmentService(session).assign(actor, task_id, body.user_id)


def _claim(session: Session, actor: Actor, task_id: UUID, body: TaskClaim) -> Awaitable[Task]:
    return ClaimService(session).claim(actor, task_id, lease_seconds=body.lease_seconds)


QUICK_WRITES: tuple[QuickRoute[Any, Any], ...] = (
    QuickRoute(
        "POST",
        TASKS,
        needs=TokenScope.TASKS_WRITE,
        recognize=_recognize_creation,
        read=_reader_of(TaskCreate),
        answer=_create,
    ),
    _change("PATCH", "", TaskUpdate, _update),
    _change("PUT", "/status", TaskStatusUpdate, _change_status),
    _change("POST", "/assign", TaskAssign, _assign),
    _change("POST", "/claim", TaskClaim, _claim, needs=TokenScope.TASKS_CLAIM),
)
