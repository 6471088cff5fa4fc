"""A pooler in front of PostgreSQL, as small as can be: it has keys of its own, and may share one session among all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.utils.odd_servers import listening

READY = b"Z"
KEY = b"K"


@asynccontextmanager
async def pooler(server_socket: str, *, shares_session: bool) -> AsyncIterator[int]:
    """Yield its port. It pools by transaction if it shares the session; a test's queries come one after the other."""
    shared = asyncio.Lock()
    session: list[_Session] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        startup = await _framed(reader, await reader.readexactly(4))
        async with shared:
            if not shares_session or not session:
                session.append(await _Session.begin(server_socket, startup))
            own = session[-1]
        writer.write(own.greeting)
        forwarding = asyncio.create_task(own.forward_answers())
        try:
            while asked := await reader.read(65536):
                own.asker = writer
                own.writer.write(asked)
        finally:
            forwarding.cancel()

    async with listening(handle) as port:
        yield port
    for begun in session:
        begun.writer.close()


class _Session:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, greeting: bytes) -> None:
        self._reader = reader
        self.writer = writer
        self.greeting = greeting
        self.asker: asyncio.StreamWriter | None = None

    @classmethod
    async def begin(cls, server_socket: str, startup: bytes) -> "_Session":
        reader, writer = await asyncio.open_unix_connection(server_socket)
        writer.write(startup)
        greeting = b""
        kind = b""
        while kind != READY:
            kind = await reader.readexactly(1)
            message = kind + await _framed(reader, await reader.readexactly(4))
            # The key, by which a client would cancel a query, begins with the number of a process.
            greeting += message[:5] + (4_000_000).to_bytes(4, "big") + message[9:] if kind == KEY else message
        return cls(reader, writer, greeting)

    async def forward_answers(self) -> None:
        with suppress(OSError, RuntimeError):
            while answer := await self._reader.read(65536):
                assert self.asker is not None
                self.asker.write(answer)


async def _framed(reader: asyncio.StreamReader, length: bytes) -> bytes:
    return length + await reader.readexactly(int.from_bytes(length, "big") - 4)
