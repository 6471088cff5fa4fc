"""The course of one socket: sign in, listen and speak, end with the right code."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import structlog
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from app.core.auth import NotSignedIn, SignedIn
from app.core.errors import HiveError, ServiceUnavailable
from app.core.permissions import Actor
from app.events.backlog import LogPosition
from app.events.filters import EventFilter
from app.schemas.websocket import AuthData, ChatMessagePost, auth_message, client_message
from app.websockets.connection import FAREWELL_SECONDS, CloseCode, Connection, Message
from app.websockets.connection_manager import ConnectionManager
from app.websockets.places import Places
from app.websockets.presence import Presence
from app.websockets.replay import ReadBacklog, catch_up

SIGN_IN_SECONDS = 10.0
# Why a socket is not served, from what REST would answer.
REFUSALS = {401: CloseCode.UNAUTHORIZED, 429: CloseCode.TOO_MANY_READERS}

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
    allowed_origins: frozenset[str]
    places: Places = field(default_factory=Places)


async def converse(websocket: WebSocket, server: SocketServer) -> None:
    """Serve one socket from its handshake to its end."""
    if not _is_origin_allowed(websocket, server.allowed_origins):
        # Before it's accepted, closing refuses the handshake with a 403.
        await websocket.close()
        return
    if "token" in websocket.query_params:
        await _sign_in_and_serve(websocket, server, _auth_of_address(websocket), is_accepted=False)
    else:
        await websocket.accept()
        await _sign_in_and_serve(websocket, server, await _auth_of_first_message(websocket), is_accepted=True)


async def _sign_in_and_serve(
    websocket: WebSocket, server: SocketServer, auth: AuthData | None, *, is_accepted: bool
) -> None:
    with ExitStack() as place:
        try:
            if auth is None:
                raise NotSignedIn
            signed_in = await _sign_in(server, auth.token)
            place.enter_context(server.places.taken_by(signed_in.actor))
        except HiveError as error:
            if not is_accepted:
                # A code can be read only from a socket that was accepted.
                await websocket.accept()
            await _close(websocket, REFUSALS.get(error.status_code, CloseCode.TRY_AGAIN_LATER))
            return
        await _welcome(websocket, server, signed_in, auth, is_accepted=is_accepted)


async def _sign_in(server: SocketServer, token: str) -> SignedIn:
    try:
        async with asyncio.timeout(SIGN_IN_SECONDS):
            await server.connections.until_following()
    except TimeoutError:
        raise ServiceUnavailable("This server does not follow the log of events yet.") from None
    return await server.sign_in(token)


async def _welcome(
    websocket: WebSocket, server: SocketServer, signed_in: SignedIn, auth: AuthData, *, is_accepted: bool
) -> None:
    wanted = EventFilter.of(auth.types, auth.task_id)
    connection = Connection(signed_in.actor, wanted=wanted, is_live=auth.since is None)
    # Subscribed before it's accepted, a socket that is open misses nothing.
    server.connections.add(connection)
    try:
        if not is_accepted:
            await websocket.accept()
        server.presence.sockets_changed()
        since = None if auth.since is None else LogPosition(auth.since, auth.epoch)
        await _serve(websocket, connection, server, since=since, until=signed_in.expires_at)
    finally:
        server.connections.remove(connection)
        server.presence.sockets_changed()


async def _serve(
    websocket: WebSocket, connection: Connection, server: SocketServer, *, since: LogPosition | None, until: datetime
) -> None:
    reader = asyncio.create_task(_read(websocket, connection, server))
    writer = asyncio.create_task(_write(websocket, connection))
    ended = asyncio.create_task(connection.is_ended.wait())
    helpers = [reader, writer, ended]
    if since is not None:
        helpers.append(asyncio.create_task(catch_up(connection, server.connections, server.read_backlog, since=since)))
    remaining = (until - datetime.now(UTC)).total_seconds()
    try:
        done, _ = await asyncio.wait(
            {reader, writer, ended}, timeout=max(remaining, 0), return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            connection.end(CloseCode.UNAUTHORIZED)
        if connection.is_ended.is_set():
            # What is queued still goes out, unless the other side has stopped reading.
            await asyncio.wait({writer}, timeout=FAREWELL_SECONDS)
            await _close(websocket, connection.close_code)
        elif any(_is_broken(task) for task in done):
            await _close(websocket, CloseCode.INTERNAL_ERROR)
    finally:
        for task in helpers:
            task.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)


async def _write(websocket: WebSocket, connection: Connection) -> None:
    while (message := await connection.next_message()) is not None:
        await websocket.send_text(message.text)
        connection.events_given += message.is_event


def _is_broken(task: asyncio.Task[Any]) -> bool:
    fault = None if task.cancelled() else task.exception()
    if fault is None or isinstance(fault, WebSocketDisconnect):
        return False
    log.warning("a socket broke", exc_info=fault)
    return True


async def _read(websocket: WebSocket, connection: Connection, server: SocketServer) -> None:
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        if text is None:
            connection.offer(_error("invalid_message", "Messages are JSON texts, not binary."))
        else:
            await _answer(text, connection, server)


async def _answer(text: str, connection: Connection, server: SocketServer) -> None:
    try:
        message = client_message.validate_json(text)
        if isinstance(message, ChatMessagePost):
            await server.say(connection.actor, message.data.message)
        else:
            connection.offer(Message(json.dumps({"type": "pong", "data": message.data}, allow_nan=False)))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        details = "; ".join(fault["msg"] for fault in faults[:5])
        connection.offer(_error("invalid_message", details))
    except ValueError:
        connection.offer(_error("invalid_message", "NaN and Infinity are no JSON."))
    except NotSignedIn:
        connection.end(CloseCode.UNAUTHORIZED)
    except HiveError as error:
        connection.offer(_error(error.error_code, error.detail))


def _error(code: str, detail: str) -> Message:
    return Message(json.dumps({"type": "error", "data": {"code": code, "detail": detail}}))


async def _auth_of_first_message(websocket: WebSocket) -> AuthData | None:
    """What the first message says; None when it's another message or none comes in time."""
    try:
        async with asyncio.timeout(SIGN_IN_SECONDS):
            return auth_message.validate_json(await websocket.receive_text()).data
    except (TimeoutError, ValidationError, WebSocketDisconnect, KeyError):
        return None


def _auth_of_address(websocket: WebSocket) -> AuthData | None:
    """The same from the address, where `types` may stand several times; None when it can't be read."""
    query = websocket.query_params
    try:
        return AuthData.model_validate({**query, "types": query.getlist("types")})
    except ValidationError:
        return None


async def _close(websocket: WebSocket, code: int) -> None:
    # The other side may be gone, or not read any more; either way there is nobody to wait for.
    with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(FAREWELL_SECONDS):
            await websocket.close(code)


def _is_origin_allowed(websocket: WebSocket, allowed: frozenset[str]) -> bool:
    """Browsers say which site a socket comes from; only this server's own and the configured ones may."""
    origin = websocket.headers.get("origin")
    if origin is None or origin in allowed or "*" in allowed:
        return True
    return urlsplit(origin).netloc == websocket.headers.get("host")
