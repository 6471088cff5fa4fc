"""The two reads that are asked for most, without the framework's way of preparing a request. See ADR 27.

What stands in `api_v1/tasks.py` is what these routes are, in the documentation too. Here they are answered by the same
functions, but only as far as a request is plain; whatever is odd about another one is for the declared route to say.
"""

import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qs
from uuid import UUID

from pydantic import ValidationError
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from app.api.bearer import bearer_token
from app.api.task_answers import task_answer, tasks_answer
from app.core.auth import NotSignedIn
from app.core.permissions import Actor
from app.models import Scope as TokenScope
from app.schemas.task import TaskListQuery
from app.state import State

Asked = TypeVar("Asked")

TASKS = "/api/v1/tasks"
_TASK = re.compile(rf"{TASKS}/([0-9a-f]{{8}}-(?:[0-9a-f]{{4}}-){{3}}[0-9a-f]{{12}})")
LONGEST_QUERY = 500
REPEATABLE = frozenset({"status", "priority", "category"})


class QuickRead(BaseRoute, Generic[Asked]):
    """`recognize` says what a plain request asks for, and None to all others."""

    def __init__(
        self,
        path_format: str,
        *,
        recognize: Callable[[Scope], Asked | None],
        answer: Callable[[State, Actor, Asked, Scope], Awaitable[Response]],
    ) -> None:
        self.path_format = path_format
        self._recognize = recognize
        self._answer = answer

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and scope["method"] == "GET":
            asked = self._recognize(scope)
            if asked is not None:
                # The name under which it's counted is the route's.
                return Match.FULL, {"route": self, "asked": asked}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        state: State = scope["app"].state.hive
        token = bearer_token(scope)
        if token is None:
            raise NotSignedIn
        signed_in = await state.sign_ins.sign_in(token)
        signed_in.require(TokenScope.TASKS_READ)
        response = await self._answer(state, signed_in.actor, scope["asked"], scope)
        await response(scope, receive, send)


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


async def _answer_task(state: State, actor: Actor, task_id: UUID, scope: Scope) -> Response:
    given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"if-none-match"), None)
    return task_answer(await state.task_reads.get(actor, task_id), if_none_match=given)


async def _answer_list(state: State, actor: Actor, query: TaskListQuery, scope: Scope) -> Response:
    return tasks_answer(await state.task_reads.list(actor, query), scope)


QUICK_READS: tuple[QuickRead[Any], ...] = (
    QuickRead(f"{TASKS}/{{task_id}}", recognize=_recognize_task, answer=_answer_task),
    QuickRead(TASKS, recognize=_recognize_list, answer=_answer_list),
)
