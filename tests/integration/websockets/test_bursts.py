"""Many events at once: they come in whole batches, and nobody who reads may be taken for slow."""

import asyncio
import json
from collections import Counter
from time import time
from uuid import uuid4

import httpx2
import pytest
from websockets.asyncio.client import connect

from app.config import Settings
from app.core.permissions import Actor
from app.core.redis import connect_redis
from app.database import Database
from app.events import outbox
from app.events.types import ChatMessage
from app.models import User
from app.websockets.connection import MAX_QUEUED_BYTES, MAX_QUEUED_MESSAGES, Connection
from app.websockets.connection_manager import ConnectionManager
from app.websockets.presence import KEY, Presence
from tests.conftest import RunningSystem, token_of
from tests.utils.test_utils import PATIENCE, wait_until_async

pytestmark = pytest.mark.committed

LONG = "Water the orchids. " * 200


@pytest.mark.parametrize(
    ("count", "text"),
    [(MAX_QUEUED_MESSAGES + 150, "short"), (MAX_QUEUED_BYTES // len(LONG) + 50, LONG)],
    ids=["many", "large"],
)
async def test_a_burst_larger_than_a_queue_reaches_whoever_reads(
    running_system: RunningSystem, settings: Settings, database: Database, user: User, count: int, text: str
) -> None:
    token = token_of(user, settings)
    async with (
        connect(f"{running_system.sockets}?token={token}&types=chat.message", proxy=None) as socket,
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE) as http,
        http.stream("GET", f"{running_system.address}/events/stream?types=chat.message") as stream,
    ):
        async with database.unit_of_work() as session:
            for n in range(count):
                await outbox.record(session, ChatMessage(message=f"{n} {text}"), actor=Actor.of(user), audience=None)
        expected = [f"{n} {text}" for n in range(count)]

        async with asyncio.timeout(PATIENCE):
            on_socket = [json.loads(await socket.recv()) for _ in range(count)]
            lines = stream.aiter_lines()
            on_stream: list[dict[str, dict[str, str]]] = []
            while len(on_stream) < count:
                line = await anext(lines)
                on_stream += [json.loads(line.removeprefix("data: "))] if line.startswith("data: ") else []

    assert [message["data"]["message"] for message in on_socket] == expected
    assert [message["data"]["message"] for message in on_stream] == expected


@pytest.mark.usefixtures("clean_redis")
async def test_many_users_who_come_and_go_at_once_are_told_to_whoever_reads(redis_url: str, user: User) -> None:
    redis = connect_redis(redis_url)
    connections, told = ConnectionManager(), Counter[str]()
    reader = Connection(Actor.of(user))
    connections.add(reader)
    entries = {f"{uuid4()}/another process": time() + 60 for _ in range(MAX_QUEUED_MESSAGES + 150)}

    async def read() -> None:
        while message := await reader.next_message():
            told[json.loads(message.text)["type"]] += 1

    work = [asyncio.create_task(read()), asyncio.create_task(Presence(redis, connections).run())]
    await redis.zadd(redis.key(KEY), entries)
    await wait_until_async(lambda: are_all(told, "user.online", len(entries)), what="all who come")
    await redis.zrem(redis.key(KEY), *entries)
    await wait_until_async(lambda: are_all(told, "user.offline", len(entries)), what="all who go")

    assert not reader.is_ended
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)
    await redis.aclose()


async def are_all(told: Counter[str], event_type: str, count: int) -> bool:
    return told[event_type] == count
