"""The two reads that are asked for most, as quick routes. See ADR 27."""

import re
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import Scope

from app.api.quick_routes import AN_ID, TASKS, Call, QuickRoute
from app.api.task_answers import task_answer, tasks_answer
from app.models import Scope as TokenScope
from app.schemas.task import TaskListQuery

_TASK = re.compile(f"{TASKS}/{AN_ID}")
LONGEST_QUERY = 500
REPEATABLE = frozenset({"status", "priority", "category"})


def _no_body(_: bytes) -> None:
    pass


def _recognize_task(scope: Scope) -> UUID | None:
    found = None if scope["query_string"] else _TASK.fullmatch(scope["path"])
    return UUID(found[1]) if found else None


def _recognize_list(scope: Scope) -> TaskListQuery | None:
    query: bytes = scope["query_string"]
    return _read_query(query) if scope["path"] == TASKS and len(query) <= LONGEST_QUERY else None


# The same few lists are asked for again and again.
@lru_cache(maxsize=1024)
def _read_query(query: bytes) -> TaskListQuery | None:
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    if any(len(values) > 1 for name, values in given.items() if name not in REPEATABLE):
        return None
    try:
        return TaskListQuery.model_validate(
            {name: values if name in REPEATABLE else values[0] for name, values in given.items()}
        )
    except ValidationError:
        return None


async def _answer_task(call: Call[UUID, None]) -> Response:
    headers = call.scope["headers"]
    given = next((value.decode("latin-1") for name, value in headers if name == b"if-none-match"), None)
    return task_answer(await call.state.task_reads.get(call.actor, call.asked), if_none_match=given)


async def _answer_list(call: Call[TaskListQuery, None]) -> Response:
    return tasks_answer(await call.state.task_reads.list(call.actor, call.asked), call.scope)


QUICK_READS: tuple[QuickRoute[Any, None], ...] = (
    QuickRoute(
        "GET",
        f"{TASKS}/{{task_id}}",
        needs=TokenScope.TASKS_READ,
        recognize=_recognize_task,
        read=_no_body,
        answer=_answer_task,
    ),
    QuickRoute(
        "GET", TASKS, needs=TokenScope.TASKS_READ, recognize=_recognize_list, read=_no_body, answer=_answer_list
    ),
)
