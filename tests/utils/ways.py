"""Ways to a server that a test can stop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Way:
    """A way to the server. Nothing more moves on it once the event is set; `port` is None where it's a socket file."""

    port: int | None
    is_frozen: asyncio.Event


@asynccontextmanager
async def way(*, to: str, by: str | None) -> AsyncIterator[Way]:
    """Lead to the server at the socket file `to`, by another socket file or by a port."""
    is_frozen = asyncio.Event()
    connections: list[asyncio.Task[None]] = []

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while not is_frozen.is_set() and (piece := await source.read(65536)):
            target.write(piece)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(to)
        try:
            await asyncio.gather(carry(reader, server_writer), carry(server_reader, writer), asyncio.Event().wait())
        finally:
            writer.transport.abort()
            server_writer.transport.abort()

    def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.create_task(serve(reader, writer)))

    serving = asyncio.start_unix_server(connect, by) if by else asyncio.start_server(connect, "127.0.0.1", 0)
    async with await serving as server:
        yield Way(None if by else server.sockets[0].getsockname()[1], is_frozen)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
