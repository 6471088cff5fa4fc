"""Routes without the framework's way of preparing a request, for what is asked for most. See ADRs 27 and 32.

What stands in `api_v1/tasks.py` is what these routes are, in the documentation too. Here they are answered by the same
functions, but only as far as a request is plain; whatever is odd about another one is for the declared route to say.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Message, Receive, Scope, Send

from app.api.bearer import bearer_token
from app.core.auth import NotSignedIn
from app.core.permissions import Actor
from app.models import Scope as TokenScope
from app.state import State

Asked = TypeVar("Asked")
Body = TypeVar("Body")
TASKS = "/api/v1/tasks"
# An id as HIVE writes it; other spellings are for the declared routes.
AN_ID = "([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})"
_IS_ODD = "hive_is_odd"


@dataclass(frozen=True, slots=True)
class Call(Generic[Asked, Body]):
    """A request that was understood, by somebody who may make it."""

    state: State
    actor: Actor
    asked: Asked
    body: Body
    scope: Scope


class QuickRoute(BaseRoute, Generic[Asked, Body]):
    """`recognize` says what a plain request asks for, and None to all others.

    `read` makes of the body what the request brings, and raises `ValueError` if it's not what it should be.
    """

    def __init__(
        self,
        method: str,
        path_format: str,
        *,
        needs: TokenScope,
        recognize: Callable[[Scope], Asked | None],
        read: Callable[[bytes], Body],
        answer: Callable[[Call[Asked, Body]], Awaitable[Response]],
    ) -> None:
        self.path_format = path_format
        self._method = method
        self._needs = needs
        self._recognize = recognize
        self._read = read
        self._answer = answer

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and scope["method"] == self._method and _IS_ODD not in scope:
            asked = self._recognize(scope)
            if asked is not None:
                # The name under which it's counted is the route's.
                return Match.FULL, {"route": self, "asked": asked}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        content = b"" if self._method == "GET" else await _body(scope, receive)
        try:
            body = self._read(content)
        except (ValueError, RecursionError):
            scope[_IS_ODD] = True
            await scope["app"].router(scope, _again(content, receive), send)
            return
        response = await self._respond(scope, body)
        await response(scope, receive, send)

    async def _respond(self, scope: Scope, body: Body) -> Response:
        state: State = scope["app"].state.hive
        token = bearer_token(scope)
        if token is None:
            raise NotSignedIn
        signed_in = await state.sign_ins.sign_in(token)
        signed_in.require(self._needs)
        return await self._answer(Call(state, signed_in.actor, scope["asked"], body, scope))


async def _body(scope: Scope, receive: Receive) -> bytes:
    try:
        return await Request(scope, receive).body()
    except ClientDisconnect:
        # As the framework has it. Nobody reads the answer, but it's counted, and it's no fault of ours.
        raise HTTPException(400) from None


def _again(content: bytes, receive: Receive) -> Receive:
    """The body, which was received already, and then whatever comes."""
    messages: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
