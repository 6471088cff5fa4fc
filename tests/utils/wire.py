"""A small server under HIVE's own protocols, and clients that say what they like."""

import asyncio
import base64
import os
import socket
import struct
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from app.limits.address import TrustedProxies
from app.websockets.line import note_sign_in
from app.websockets.uvicorn_protocol import FrameProtocol
from app.wire.config import WireConfig
from app.wire.connections import ConnectionTable
from app.wire.http_protocol import HttpProtocol
from tests.utils.test_utils import PATIENCE

CLOSE = 0x88


@dataclass
class EchoApp:
    """Answers with the length of the body and the names of the headers, once `may_read` is set.

    `/early` is answered without a look at the body, `/large` with a large answer. A socket has signed in with its first
    message; each is sent back.
    """

    may_read: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[Scope] = field(default_factory=list)
    disconnects: int = 0
    heard: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.may_read.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._converse(WebSocket(scope, receive, send))
            return
        self.requests.append(scope)
        if scope["path"] == "/early":
            await _answer(send, 401, b"who are you?")
            return
        if scope["path"] == "/large":
            await _answer(send, 200, b"x" * 20_000_000)
            return
        await self.may_read.wait()
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnects += 1
                return
            body += message["body"]
            if not message.get("more_body"):
                break
        names = b",".join(name for name, _ in scope["headers"])
        await _answer(send, 200, b"%d %s" % (len(body), names))

    async def _converse(self, socket: WebSocket) -> None:
        await socket.accept()
        with suppress(WebSocketDisconnect):
            self.heard.append(await socket.receive_text())
            await self.may_read.wait()
            note_sign_in(socket)
            while True:
                self.heard.append(await socket.receive_text())


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class QuietServer(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        # The signals are for the tests.
        yield


@dataclass
class Site:
    app: EchoApp
    server: uvicorn.Server
    table: ConnectionTable
    port: int
    _callers: list["Caller"] = field(default_factory=list)

    async def call(self) -> "Caller":
        caller = Caller(*await asyncio.open_connection("127.0.0.1", self.port))
        self._callers.append(caller)
        return caller

    async def hang_up(self) -> None:
        for caller in self._callers:
            caller.writer.close()
            with suppress(ConnectionError):
                await caller.writer.wait_closed()

    @property
    def protocols(self) -> list[Any]:
        return list(self.server.server_state.connections)


@asynccontextmanager
async def serving(*, most_each: int = 50, most: int = 100, trusted: TrustedProxies = ()) -> AsyncIterator[Site]:
    app = EchoApp()
    table = ConnectionTable(most_each=most_each, most=most, trusted=trusted)
    config = WireConfig(
        app,
        connections=table,
        http=HttpProtocol,
        ws=FrameProtocol,
        ws_per_message_deflate=False,
        ws_max_size=64 * 1024,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = QuietServer(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = asyncio.create_task(server.serve(sockets=[listener]))
        site = Site(app, server, table, listener.getsockname()[1])
        try:
            yield site
        finally:
            app.may_read.set()
            await site.hang_up()
            server.should_exit = True
            await running


@dataclass
class Caller:
    """A client that sends bytes and reads bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        with suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def say_until_closed(self, data: bytes) -> int:
        """How many bytes could be sent before the other side closed the connection."""
        sent = 0
        async with asyncio.timeout(PATIENCE):
            while not (self.writer.is_closing() or self.reader.at_eof()):
                try:
                    self.writer.write(data)
                    await self.writer.drain()
                except ConnectionError:
                    break
                sent += len(data)
                await asyncio.sleep(0)
        return sent

    async def status(self) -> int:
        """That of the next answer; its body is read too."""
        return (await self.answer())[0]

    async def answer(self) -> tuple[int, str, bytes]:
        """Status, media type and body of the next answer."""
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            body = await self.reader.readexactly(int(fields.get("content-length", 0)))
        return int(head.split()[1]), fields.get("content-type", ""), body

    async def rest(self) -> bytes:
        """All that comes until the other side closes the connection."""
        data = b""
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionError):
                while more := await self.reader.read(65536):
                    data += more
        return data

    async def upgrade(self) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        await self.say(
            f"GET /ws HTTP/1.1\r\nHost: hive\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        assert await self.status() == 101

    async def close_code(self) -> int | None:
        """The code with which the other side closes the socket; None if it says nothing."""
        data = await self.rest()
        at = data.rfind(bytes([CLOSE]))
        return struct.unpack("!H", data[at + 2 : at + 4])[0] if at >= 0 else None
