"""The client of Redis: what HIVE relies on beyond its commands."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from app.core.redis import REDIS_FAILURES, connect_redis


@pytest.mark.parametrize("turns", range(12))
async def test_whoever_is_at_a_command_can_be_cancelled_at_any_moment(redis_url: str, turns: int) -> None:
    redis = connect_redis(redis_url)
    await redis.ping()
    is_enough = asyncio.Event()

    async def ping() -> None:
        while not is_enough.is_set():
            await redis.ping()

    pinging = asyncio.create_task(ping())
    for _ in range(turns):
        await asyncio.sleep(0)

    pinging.cancel()
    ended, _ = await asyncio.wait({pinging}, timeout=1)

    is_enough.set()
    assert ended == {pinging}
    await redis.aclose()


async def test_a_command_that_the_server_does_not_take_fails_in_time(
    redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = str(tmp_path_factory.mktemp("redis") / "relay.sock")
    async with frozen_way(to=urlsplit(redis_url).path, by=path) as is_frozen:
        redis = connect_redis(f"unix://{path}", reply_seconds=0.3)
        await redis.ping()
        is_frozen.set()

        with pytest.raises(REDIS_FAILURES):
            async with asyncio.timeout(10):
                # More than the buffers on the way can take, so that it waits to be sent.
                await redis.set("key", b"x" * 20_000_000)
        await redis.aclose()


@asynccontextmanager
async def frozen_way(*, to: str, by: str) -> AsyncIterator[asyncio.Event]:
    """A way to the server, on which nothing moves once the event is set."""
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

    async with await asyncio.start_unix_server(connect, by):
        yield is_frozen
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
