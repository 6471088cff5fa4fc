"""The ceiling of events: a bare `websockets` server that HIVE has no part in.

    python -m bench.ceilings.bare_events <port> <database> <redis>

`/live` gets each entry of a stream in Valkey, by the library's own `broadcast`. `/replay` reads the rows of the events
in pages and writes a text that is ready for each; `/prepare` makes those texts, before anybody's clock runs. These two
take `after`, a `seq`.
"""

import asyncio
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import uvloop
from redis.asyncio import Redis
from websockets.asyncio.server import ServerConnection, broadcast, serve

STREAM = "benchmark:bare"
READY = "ready"
PAGE = 1_000
TEXTS = """
    SELECT seq, json_build_object(
        'id', id, 'seq', seq, 'type', type, 'timestamp', created_at,
        'actor', json_build_object('id', actor_id, 'type', actor_type),
        'task', json_build_object('id', task_id, 'version', task_version), 'data', data
    )::text AS text FROM events WHERE seq > $1
"""
ROWS = """
    SELECT seq, id, type, created_at, actor_id, actor_type, task_id, task_version, audience, data
    FROM events WHERE seq > $1 ORDER BY seq LIMIT $2
"""


class BareServer:
    def __init__(self, pool: asyncpg.Pool, redis: Redis) -> None:
        self._pool = pool
        self._redis = redis
        self._texts: dict[int, str] = {}
        self._readers: set[ServerConnection] = set()

    async def serve_one(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        address = urlsplit(socket.request.path)
        after = int(parse_qs(address.query).get("after", ["0"])[0])
        if address.path == "/live":
            await self._live(socket)
        elif address.path == "/prepare":
            await self._prepare(socket, after)
        else:
            await self._replay(socket, after)

    async def follow(self) -> None:
        """Give each new entry to everybody."""
        newest: Any = await self._redis.xrevrange(STREAM, count=1)
        position = newest[0][0] if newest else "0-0"
        while True:
            found: Any = await self._redis.xread({STREAM: position}, block=1_000)
            entries = found[0][1] if found else []
            for _, fields in entries:
                broadcast(self._readers, fields["event"])
                # As HIVE does, so that those whose buffers are full have a turn.
                await asyncio.sleep(0)
            position = entries[-1][0] if entries else position

    async def _live(self, socket: ServerConnection) -> None:
        self._readers.add(socket)
        try:
            await socket.wait_closed()
        finally:
            self._readers.discard(socket)

    async def _prepare(self, socket: ServerConnection, after: int) -> None:
        self._texts = {row["seq"]: row["text"] for row in await self._pool.fetch(TEXTS, after)}
        await socket.send(READY)

    async def _replay(self, socket: ServerConnection, after: int) -> None:
        while rows := await self._pool.fetch(ROWS, after, PAGE):
            for row in rows:
                await socket.send(self._texts[row["seq"]])
            after = rows[-1]["seq"]


async def main(port: int, database_url: str, redis_url: str) -> None:
    redis: Redis = Redis.from_url(redis_url, decode_responses=True, protocol=2)
    async with asyncpg.create_pool(database_url, min_size=1, max_size=2) as pool:
        server = BareServer(pool, redis)
        async with serve(server.serve_one, "127.0.0.1", port, compression=None):
            await server.follow()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), *sys.argv[2:4]))
