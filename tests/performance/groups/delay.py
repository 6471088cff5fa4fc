"""How long a change takes to reach the socket of somebody else, on a system that does nothing besides.

Nobody outside of PostgreSQL sees the moment of the commit. The clock starts at the `timestamp` of the event, which is
the beginning of the transaction that wrote it: HIVE's own work in that transaction counts as well, so the true delay is
a little shorter. It stops when the reader has the text. Both are times of this machine's clock.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect

from tests.performance.own_system import BenchedSystem
from tests.performance.realtime.bare_events import STREAM
from tests.performance.realtime.processes import Listening

PATIENCE = 30.0
BARE_TABLE = "CREATE TABLE IF NOT EXISTS benchmark_bare (id bigserial PRIMARY KEY, event text NOT NULL)"
BARE_WRITE = "INSERT INTO benchmark_bare (event) VALUES ($1) RETURNING extract(epoch FROM now())::float8"


@dataclass(frozen=True, slots=True)
class Changes:
    """How many are made, and how many seconds pass between an answer and the next one."""

    count: int
    pause: float


@dataclass(frozen=True, slots=True)
class Received:
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class Delays:
    """Of each change, in milliseconds, and the texts that came."""

    milliseconds: Sequence[float]
    texts: Sequence[str]


async def delays_of_hive(system: BenchedSystem, writer: UUID, reader: UUID, changes: Changes) -> Delays:
    headers = {"Authorization": f"Bearer {system.token_of(writer)}"}
    async with httpx2.AsyncClient(base_url=system.api, headers=headers) as http:
        body = {"title": "Water the orchids", "status": "available"}
        task = (await http.post("/tasks", json=body)).raise_for_status().json()
        address = f"{system.socket}?token={system.token_of(reader)}&types=task.updated&task_id={task['id']}"
        async with connect(address, proxy=None) as socket:
            receiving = asyncio.create_task(_receive(socket, changes.count))
            for number in range(changes.count):
                change = {"title": f"Water {number + 1} orchids"}
                (await http.patch(f"/tasks/{task['id']}", json=change)).raise_for_status()
                await asyncio.sleep(changes.pause)
            received = await receiving
    events: list[dict[str, Any]] = [json.loads(message.text) for message in received]
    # Every change, once and in order.
    assert [event["task"]["version"] for event in events] == list(range(2, changes.count + 2))
    begun = [datetime.fromisoformat(event["timestamp"]).timestamp() for event in events]
    return _delays(begun, received)


async def delays_of_ceiling(system: BenchedSystem, bare: Listening, texts: Sequence[str], pause: float) -> Delays:
    """The same texts by a commit, an entry in a stream and a bare server that waits for it."""
    database = await asyncpg.connect(system.database_url)
    redis: Redis = Redis.from_url(system.redis_url)
    try:
        await database.execute(BARE_TABLE)
        async with connect(f"{bare.address.replace('http', 'ws')}/live", proxy=None) as socket:
            await socket.recv()
            receiving = asyncio.create_task(_receive(socket, len(texts)))
            begun = []
            for text in texts:
                begun.append(await database.fetchval(BARE_WRITE, text))
                await redis.xadd(STREAM, {"event": text}, maxlen=1_000)
                await asyncio.sleep(pause)
            received = await receiving
    finally:
        await database.execute("DROP TABLE IF EXISTS benchmark_bare")
        await database.close()
        await redis.delete(STREAM)
        await redis.aclose()
    assert [message.text for message in received] == list(texts)
    return _delays(begun, received)


async def _receive(socket: ClientConnection, count: int) -> list[Received]:
    found: list[Received] = []
    async with asyncio.timeout(PATIENCE + count):
        while len(found) < count:
            text = await socket.recv(decode=True)
            found.append(Received(text, time.time()))
    return found


def _delays(begun: Sequence[float], received: Sequence[Received]) -> Delays:
    milliseconds = [(message.at - start) * 1000 for start, message in zip(begun, received, strict=True)]
    return Delays(milliseconds, [message.text for message in received])
