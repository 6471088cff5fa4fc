"""The course of one socket: sign in, listen and speak, end with the right code."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from urllib.parse import urlsplit

import structlog
from pydantic import ValidationError
from starlette.datastructures import QueryParams
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from app.core.auth import NotSignedIn, SignedIn
from app.core.errors import HiveError, ServiceUnavailable
from app.core.json_limits import TooManyParts, require_few_parts
from app.core.permissions import Actor
from app.events.backlog import LogPosition
from app.events.filters import EventFilter
from app.models import Scope
from app.schemas.fields import complaint_of
from app.schemas.websocket import AuthData, ChatMessagePost, auth_message, client_message
from app.websockets.connection import FAREWELL_SECONDS, CloseCode, Connection
from app.websockets.connection_manager import ConnectionManager
from app.websockets.line import line_of, note_sign_in
from app.websockets.message import Message
from app.websockets.presence import Presence
from app.websockets.replay import ReadBacklog, catch_up
from app.websockets.seats import Seats

SIGN_IN_SECONDS = 10.0
MAX_MESSAGE_BYTES = 64 * 1024
# Why a socket is not served, from what REST would answer.
REFUSALS = {401: CloseCode.UNAUTHORIZED, 403: CloseCode.FORBIDDEN, 429: CloseCode.TOO_MANY_READERS}

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SocketServer:
    """What readers need: those of this process, and ways to the services.

    `sign_in` raises a `HiveError` when the token is not valid (401) or the database is away (503).
    """

    connections: ConnectionManager
    presence: Presence
    sign_in: Callable[[str], Awaitable[SignedIn]]
    say: Callable[[Actor, str], Awaitable[None]]
    read_backlog: ReadBacklog
    allowed_origins: Container[str]
    seats: Seats = field(default_factory=Seats)


@dataclass(frozen=True, slots=True)
class _Guest:
    """The user who has signed in, and what they want to be told from where on. The token isn't needed again."""

    signed_in: SignedIn
    wanted: EventFilter
    since: LogPosition | None


async def converse(websocket: WebSocket, server: SocketServer) -> None:
    """Serve one socket from its handshake to its end."""
    if not _is_origin_allowed(websocket, server.allowed_origins):
        # Before it's accepted, closing refuses the handshake with a 403.
        await websocket.close()
        return
    try:
        guest = await _sign_in(websocket, server)
        with server.seats.taken_by(guest.signed_in.actor.id):
            note_sign_in(websocket)
            await _welcome(websocket, guest, server)
    except HiveError as error:
        # A code can be read only from a socket that was accepted.
        await _accept(websocket)
        await _close(websocket, REFUSALS.get(error.status_code, CloseCode.TRY_AGAIN_LATER))


async def _sign_in(websocket: WebSocket, server: SocketServer) -> _Guest:
    auth = await _auth_of(websocket)
    if auth is None:
        raise NotSignedIn
    try:
        async with asyncio.timeout(SIGN_IN_SECONDS):
            await server.connections.until_following()
    except TimeoutError:
        raise ServiceUnavailable("This server does not follow the log of events yet.") from None
    signed_in = await server.sign_in(auth.token)
    signed_in.require(Scope.EVENTS_READ)
    since = None if auth.since is None else LogPosition(auth.since, auth.epoch)
    return _Guest(signed_in, EventFilter.of(auth.types, auth.task_id), since)


async def _welcome(websocket: WebSocket, guest: _Guest, server: SocketServer) -> None:
    connection = Connection(
        guest.signed_in.actor, sign_in_id=guest.signed_in.id, wanted=guest.wanted, is_live=guest.since is None
    )
    # Subscribed before it's accepted, a socket that is open misses nothing.
    server.connections.add(connection)
    try:
        await _accept(websocket)
        server.presence.sockets_changed()
        await _serve(websocket, connection, guest, server)
    finally:
        server.connections.remove(connection)
        server.presence.sockets_changed()


async def _serve(websocket: WebSocket, connection: Connection, guest: _Guest, server: SocketServer) -> None:
    """Write what is queued until the connection ends. What else belongs to it goes on beside that, and may end it."""
    beside = [asyncio.create_task(_read(websocket, connection, guest.signed_in, server))]
    if guest.since is not None:
        catching_up = catch_up(connection, server.connections, server.read_backlog, since=guest.since)
        beside.append(asyncio.create_task(catching_up))
    seconds_left = (guest.signed_in.expires_at - datetime.now(UTC)).total_seconds()
    expiry = asyncio.get_running_loop().call_later(max(seconds_left, 0), connection.end, CloseCode.UNAUTHORIZED)
    try:
        await _write(websocket, connection)
        await _close(websocket, connection.close_code)
    finally:
        expiry.cancel()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


async def _write(websocket: WebSocket, connection: Connection) -> None:
    """Until all is written after the end, but not for long then: the other side may have stopped reading."""
    line = connection.line = line_of(websocket)
    with suppress(TimeoutError):
        async with asyncio.timeout(None) as farewell:
            connection.when_ended(partial(_give_it_a_moment, farewell))
            with _ending(connection):
                while (message := await connection.next_message()) is not None:
                    await line.write(message)
                    connection.events_given += message.is_event


def _give_it_a_moment(farewell: asyncio.Timeout) -> None:
    farewell.reschedule(asyncio.get_running_loop().time() + FAREWELL_SECONDS)


@contextmanager
def _ending(connection: Connection) -> Iterator[None]:
    """However the work is left, the connection has ended then."""
    try:
        yield
    except WebSocketDisconnect:
        pass
    except Exception:
        log.warning("a socket broke", exc_info=True)
        connection.end(CloseCode.INTERNAL_ERROR)
    finally:
        connection.end(CloseCode.GOING_AWAY)


async def _read(websocket: WebSocket, connection: Connection, speaker: SignedIn, server: SocketServer) -> None:
    """Until the client leaves."""
    with _ending(connection):
        while (message := await websocket.receive())["type"] != "websocket.disconnect":
            text = message.get("text")
            if text is None:
                connection.offer(_error("invalid_message", "Messages are JSON texts, not binary."))
            elif len(text.encode()) > MAX_MESSAGE_BYTES:
                # `hive api` refuses it while it comes in. Another server may have let it pass.
                connection.end(CloseCode.TOO_LARGE)
            else:
                await _answer(text, connection, speaker, server)


async def _answer(text: str, connection: Connection, speaker: SignedIn, server: SocketServer) -> None:
    try:
        require_few_parts(text.encode())
        message = client_message.validate_json(text)
        if isinstance(message, ChatMessagePost):
            speaker.require_session()
            await server.say(speaker.actor, message.data.message)
        else:
            connection.offer(Message(json.dumps({"type": "pong", "data": message.data}, allow_nan=False)))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
        details = "; ".join(complaint_of(fault)[1] for fault in faults[:5])
        connection.offer(_error("invalid_message", details))
    except TooManyParts as error:
        connection.offer(_error("invalid_message", error.detail))
    except ValueError:
        connection.offer(_error("invalid_message", "NaN and Infinity are no JSON."))
    except NotSignedIn:
        connection.end(CloseCode.UNAUTHORIZED)
    except HiveError as error:
        connection.offer(_error(error.error_code, error.detail))


def _error(code: str, detail: str) -> Message:
    return Message(json.dumps({"type": "error", "data": {"code": code, "detail": detail}}))


async def _auth_of(websocket: WebSocket) -> AuthData | None:
    """From the address or else from the first message; None when there is none, or it can't be read."""
    # Not `query_params`, which stay with the socket.
    query = QueryParams(websocket.scope["query_string"])
    try:
        if "token" in query:
            return AuthData.model_validate({**query, "types": query.getlist("types")})
        await websocket.accept()
        async with asyncio.timeout(SIGN_IN_SECONDS):
            return auth_message.validate_json(await websocket.receive_text()).data
    except (TimeoutError, ValidationError, WebSocketDisconnect, KeyError):
        return None


async def _accept(websocket: WebSocket) -> None:
    """Unless it's accepted already, for its first message had to be read."""
    if websocket.application_state is WebSocketState.CONNECTING:
        await websocket.accept()


async def _close(websocket: WebSocket, code: int) -> None:
    # The other side may be gone, or not read any more; either way there is nobody to wait for.
    with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(FAREWELL_SECONDS):
            await websocket.close(code)


def _is_origin_allowed(websocket: WebSocket, allowed: Container[str]) -> bool:
    """Browsers say which site a socket comes from; only this server's own and the configured ones may."""
    origin = websocket.headers.get("origin")
    if origin is None or origin in allowed or "*" in allowed:
        return True
    try:
        return urlsplit(origin).netloc == websocket.headers.get("host")
    except ValueError:
        # It's no address at all.
        return False
