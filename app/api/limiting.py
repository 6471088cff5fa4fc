"""Counts the requests of each caller, as plain ASGI: so all are counted, also those that no route understands."""

import asyncio
from collections.abc import Mapping

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem_response
from app.core.bearer import bearer_token
from app.core.errors import HiveError
from app.core.security import InvalidToken, read_token
from app.dependencies import READING_METHODS
from app.limits.allowance import Allowance
from app.limits.known_tokens import KnownCaller
from app.limits.pace import TooFast
from app.limits.requests import TooManyRequests, caller_at, caller_of_user
from app.state import State
from app.websockets.connection import CloseCode
from app.wire.http_protocol import IS_GONE

# Whether the process lives is asked all the time, costs nothing, and doesn't wait for Redis. All else is counted.
NOT_COUNTED = frozenset({"/health", "/api/v1/health"})
SOCKETS = ("/ws", "/api/v1/ws")
# What `CallerPace` notes in the scope: the `KnownCaller` that the token speaks for, or None, and the name by which the
# request is counted.
CALLER = "hive_caller"
_NAME = "hive_caller_name"
_TOO_FAST = "hive_too_fast"


class CallerPace:
    """Finds the caller, a user or else the address, and has the request keep their `Pace`.

    It's outside of what answers by itself, such as CORS. The refusal is left to `RequestLimits`, for it needs the
    headers that the layers between them add.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (state := _state_of(scope)) is not None:
            caller = scope[CALLER] = find_caller(_token_of(scope), state)
            name = caller_of_user(caller.user_id) if caller else caller_at(state.limits.client_of(scope))
            scope[_NAME] = name
            pace = state.limits.pace_of_users if caller else state.limits.pace_of_addresses
            try:
                await pace.keep(name)
            except TooFast as error:
                scope[_TOO_FAST] = error
        if not await _is_for_nobody(scope):
            await self.app(scope, receive, send)


async def _is_for_nobody(scope: Scope) -> bool:
    """Whether this asks for what nobody will read, for the client has gone while it waited. A change is made anyway."""
    if scope.get("method") in READING_METHODS and IS_GONE in scope and scope[IS_GONE]():
        # The server hears of it in this turn of the loop. It would miss an answer before.
        await asyncio.sleep(0)
        return True
    return False


async def keep_pace(scope: Scope, state: State, *, requests: int) -> None:
    """Wait until the user's pace allows a request that costs as much as `requests` more.

    Raises:
        TooFast: too many requests of the user wait already.
        HTTPException: the client has gone meanwhile, so that nobody reads the answer.
    """
    if scope[CALLER] is not None:
        await state.limits.pace_of_users.keep(caller_of(scope), requests=requests)
    if await _is_for_nobody(scope):
        # It's counted as a client that goes in the middle of its body.
        raise HTTPException(400)


class RequestLimits:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        allowance = await _count(scope)
        error: HiveError | None = scope.get(_TOO_FAST)
        if allowance is not None:
            send = _telling(send, allowance.headers())
            if not allowance.is_granted:
                error = TooManyRequests(allowance)
        if error is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await _refuse_socket(receive, send)
        else:
            await refuse(error, scope, receive, send)


async def _count(scope: Scope) -> Allowance | None:
    state = _state_of(scope) if _is_counted(scope) else None
    return await state.limits.requests.count(caller_of(scope)) if state else None


def _state_of(scope: Scope) -> State | None:
    """None before the lifespan has begun: there is nobody to count then."""
    return None if scope["type"] == "lifespan" else getattr(scope["app"].state, "hive", None)


def _is_counted(scope: Scope) -> bool:
    match scope:
        case {"type": "websocket", "path": path}:
            return path in SOCKETS
        case {"type": "http", "path": str(path)}:
            return is_limited(path)
    return False


def is_limited(path: str) -> bool:
    """Whether requests for this path are counted."""
    return path not in NOT_COUNTED


def caller_of(scope: Scope) -> str:
    """The name by which a request's caller is counted: the user, or else the address."""
    name: str = scope[_NAME]
    return name


def find_caller(token: str, state: State) -> KnownCaller | None:
    """The caller that a valid token speaks for, as far as that's known without a look-up.

    Whether they may sign in at all is no matter here.
    """
    if signed_in := state.sign_ins.memory.recall(token):
        return KnownCaller(signed_in.actor.id, signed_in.person_id)
    if caller := state.limits.known_tokens.find(token):
        return caller
    try:
        user_id = read_token(token, key=state.settings.jwt_key).user_id
    except InvalidToken:
        return None
    # Agents have no sessions.
    return KnownCaller(user_id, user_id)


def _token_of(scope: Scope) -> str:
    if scope["type"] == "websocket":
        # A token that comes in the first message isn't there yet: such a handshake counts for its address.
        return QueryParams(scope["query_string"]).get("token", "")
    return bearer_token(scope) or ""


def _telling(send: Send, headers: Mapping[str, str]) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            told = ((name.lower().encode(), value.encode()) for name, value in headers.items())
            message["headers"] = [*message.get("headers", ()), *told]
        await send(message)

    return send_with_headers


async def refuse(error: HiveError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the error before any route is looked for. The body isn't read."""
    request_id = scope.get("hive_request_id")
    response = problem_response(
        error.status_code, error.error_code, error.detail, request_id=request_id, headers=error.headers
    )
    await response(scope, receive, send)


async def _refuse_socket(receive: Receive, send: Send) -> None:
    await receive()
    # A code can be read only from a socket that was accepted.
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": CloseCode.TOO_MANY_READERS})
