"""The course of one socket: sign in, listen and speak, end with the right code."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import structlog
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from app.core.auth import SignedIn
from app.core.errors import HiveError
from app.core.permissions import Actor
from app.schemas.websocket import ChatMessagePost, auth_message, client_message
from app.websockets.connection import FAREWELL_SECONDS, CloseCode, Connection
from app.websockets.connection_manager import ConnectionManager
from app.websockets.presence import Presence

SIGN_IN_SECONDS = 10.0

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SocketServer:
    """What a conversation needs: the sockets of this process, and two ways to the services.

    `sign_in` raises a `HiveError` when the token is not valid (401) or the database is away (503).
    """

    connections: ConnectionManager
    presence: Presence
    sign_in: Callable[[str], Awaitable[SignedIn]]
    say: Callable[[Actor, str], Awaitable[None]]
    allowed_origins: frozenset[str]


async def converse(websocket: WebSocket, server: SocketServer) -> None:
    """Serve one socket from its handshake to its end."""
    if not _is_origin_allowed(websocket, server.allowed_origins):
        # Before it's accepted, closing refuses the handshake with a 403.
        await websocket.close()
        return
    token = websocket.query_params.get("token")
    if token is None:
        await websocket.accept()
        token = await _first_message_token(websocket)
        await _sign_in_and_serve(websocket, server, token, is_accepted=True)
    else:
        await _sign_in_and_serve(websocket, server, token, is_accepted=False)


async def _sign_in_and_serve(
    websocket: WebSocket, server: SocketServer, token: str | None, *, is_accepted: bool
) -> None:
    try:
        signed_in = await server.sign_in(token) if token else None
        refusal = CloseCode.UNAUTHORIZED
    except HiveError as error:
        signed_in = None
        refusal = CloseCode.UNAUTHORIZED if error.status_code == 401 else CloseCode.TRY_AGAIN_LATER
    if signed_in is None:
        if not is_accepted:
            await websocket.accept()
        await _close(websocket, refusal)
        return
    connection = Connection(websocket, signed_in.actor)
    # Subscribed before it's accepted, a socket that is open misses nothing.
    server.connections.add(connection)
    try:
        if not is_accepted:
            await websocket.accept()
        server.presence.sockets_changed()
        await _serve(websocket, connection, server, until=signed_in.expires_at)
    finally:
        server.connections.remove(connection)
        server.presence.sockets_changed()


async def _serve(websocket: WebSocket, connection: Connection, server: SocketServer, *, until: datetime) -> None:
    reader = asyncio.create_task(_read(websocket, connection, server))
    writer = asyncio.create_task(connection.write())
    ended = asyncio.create_task(connection.is_ended.wait())
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
        for task in done - {ended}:
            _log_fault(task)
    finally:
        for task in (reader, writer, ended):
            task.cancel()
        await asyncio.gather(reader, writer, ended, return_exceptions=True)


def _log_fault(task: asyncio.Task[Any]) -> None:
    fault = None if task.cancelled() else task.exception()
    if fault is not None and not isinstance(fault, WebSocketDisconnect):
        log.warning("a socket broke", exc_info=fault)


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
            connection.offer(json.dumps({"type": "pong", "data": message.data}))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        details = "; ".join(fault["msg"] for fault in faults[:5])
        connection.offer(_error("invalid_message", details))
    except HiveError as error:
        connection.offer(_error(error.error_code, error.detail))


def _error(code: str, detail: str) -> str:
    return json.dumps({"type": "error", "data": {"code": code, "detail": detail}})


async def _first_message_token(websocket: WebSocket) -> str | None:
    """The token of the first message; None when it's another message or none comes in time."""
    try:
        async with asyncio.timeout(SIGN_IN_SECONDS):
            return auth_message.validate_json(await websocket.receive_text()).data.token
    except (TimeoutError, ValidationError, WebSocketDisconnect, KeyError):
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
