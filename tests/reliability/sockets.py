"""Sockets of the scenarios: opening, waiting for a message, waiting for the end."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app.models import User
from tests.reliability.system import ChaosSystem
from tests.utils.test_utils import PATIENCE


@asynccontextmanager
async def opened(system: ChaosSystem, user: User, *, api: int = 0) -> AsyncIterator[ClientConnection]:
    """A socket that is signed in: a `ping` was answered."""
    address = f"{system.apis[api].socket_address}?token={system.token_of(user)}"
    async with connect(address, proxy=None, close_timeout=1) as socket:
        await socket.send(json.dumps({"type": "ping"}))
        await receive(socket, "pong")
        yield socket


async def receive(socket: ClientConnection, *wanted: str, timeout: float | None = PATIENCE) -> dict[str, Any]:
    """The next message of one of these types."""
    async with asyncio.timeout(timeout):
        while True:
            message: dict[str, Any] = json.loads(await socket.recv())
            if message["type"] in wanted:
                return message


async def close_code(socket: ClientConnection) -> int:
    """How the server closes it."""
    async with asyncio.timeout(PATIENCE):
        try:
            while True:
                await socket.recv()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006


async def close_code_of_new_socket(system: ChaosSystem, user: User, *, api: int) -> int:
    address = f"{system.apis[api].socket_address}?token={system.token_of(user)}"
    async with connect(address, proxy=None, close_timeout=1) as socket:
        return await close_code(socket)
