"""How long a change takes to reach all who listen: one socket or a thousand, of one API process or two.

Nobody outside of PostgreSQL sees the moment of the commit. The clock starts at the `timestamp` of the event, which is
the beginning of the transaction that wrote it: HIVE's own work in that transaction counts as well, so the true delay is
a little shorter. It stops when the last reader has the text. Both are times of this machine's clock.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import httpx2
from redis.asyncio import Redis

from bench.ceilings.bare_events import STREAM
from bench.load.plan import Arrivals, Load, Request, Sockets, send
from bench.load.programs import put_under
from bench.load.reading import arrivals_of
from bench.own_system import BenchedSystem
from bench.processes import Listening
from tests.utils.test_utils import wait_until_async

WRITERS = 8
BARE_TABLE = "CREATE TABLE IF NOT EXISTS benchmark_bare (id bigserial PRIMARY KEY, event text NOT NULL)"
BARE_WRITE = "INSERT INTO benchmark_bare (event) VALUES ($1) RETURNING extract(epoch FROM now())::float8"
# The newest event of its kind again and again, as the application wrote it.
COPIES = """
    INSERT INTO events (id, type, actor_id, actor_type, task_id, task_version, audience, data)
    SELECT gen_random_uuid(), type, actor_id, actor_type, gen_random_uuid(), task_version, audience, data
    FROM (SELECT * FROM events WHERE type = 'task.updated' AND seq > 0 ORDER BY seq DESC LIMIT 1),
        generate_series(1, $1)
"""
NUMBERED = "SELECT NOT EXISTS (SELECT FROM events WHERE seq IS NULL)"


@dataclass(frozen=True, slots=True)
class Changes:
    """`count` are made, evenly, and when all have arrived a burst of so many events comes at once."""

    count: int
    per_second: float
    burst: int = 0


@dataclass(frozen=True, slots=True)
class Delays:
    """Of each change until the last reader had it, in milliseconds; and how many events of the burst a second."""

    milliseconds: Sequence[float]
    texts: Sequence[str]
    burst_per_second: float | None


async def delays_of_hive(system: BenchedSystem, apis: Sequence[Listening], sockets: int, changes: Changes) -> Delays:
    """With the sockets shared out among these API processes; the writers are all at the first of them."""
    requests = await _requests(system, changes.count)
    people = system.people
    places = [(apis[n % len(apis)].port, f"/ws?token={people[n % len(people)].token}") for n in range(sockets)]
    writers = min(WRITERS, changes.count)
    load = Load(
        (apis[0].port,),
        requests,
        connections=writers,
        seconds=changes.count / changes.per_second,
        warm_up=0,
        per_second=changes.per_second,
        once=True,
    )

    async def happening() -> None:
        await put_under(load)
        if changes.burst:
            await _burst(system, changes.burst)

    arrivals = await arrivals_of(Sockets(places, changes.count + changes.burst), happening)
    events: list[dict[str, Any]] = [json.loads(text) for text in arrivals.texts]
    # Everything, once and in order.
    seqs = [event["seq"] for event in events]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs))), "events are missing"
    assert {event["type"] for event in events} == {"task.updated"}, "something else came"
    begun = [datetime.fromisoformat(event["timestamp"]).timestamp() for event in events]
    return _delays(begun, arrivals, changes)


async def delays_of_ceiling(
    system: BenchedSystem, bare: Listening, sockets: int, texts: Sequence[str], changes: Changes
) -> Delays:
    """Texts that come by a commit, an entry in a stream and a bare server that waits for it."""
    begun: list[float] = []

    async def happening() -> None:
        redis: Redis = Redis.from_url(system.redis_url)
        database = await asyncpg.connect(system.database_url)
        try:
            await database.execute(BARE_TABLE)
            due = time.perf_counter()
            for text in texts[: changes.count]:
                begun.append(await database.fetchval(BARE_WRITE, text))
                await redis.xadd(STREAM, {"event": text}, maxlen=1_000)
                due += 1 / changes.per_second
                await asyncio.sleep(due - time.perf_counter())
            async with redis.pipeline(transaction=False) as pipeline:
                for text in texts[changes.count :]:
                    pipeline.xadd(STREAM, {"event": text}, maxlen=1_000)
                await pipeline.execute()
        finally:
            await database.execute("DROP TABLE IF EXISTS benchmark_bare")
            await database.close()
            await redis.aclose()

    arrivals = await arrivals_of(Sockets([(bare.port, "/live")] * sockets, len(texts)), happening)
    assert list(arrivals.texts) == list(texts), "the ceiling's texts are others"
    return _delays(begun, arrivals, changes)


async def _requests(system: BenchedSystem, count: int) -> list[Request]:
    """Changes of titles, those of each writer together."""
    writers = min(WRITERS, count)
    requests = []
    async with httpx2.AsyncClient(base_url=system.api) as http:
        for number in range(writers):
            token = system.people[number % len(system.people)].token
            headers = {"Authorization": f"Bearer {token}"}
            new = {"title": "Water the orchids", "status": "available"}
            task = (await http.post("/tasks", json=new, headers=headers)).raise_for_status().json()
            for change in range(count // writers):
                body = json.dumps({"title": f"Water {change:06} orchids"}).encode()
                marker = f'"Water {change:06} orchids"'
                requests.append(send("PATCH", f"/api/v1/tasks/{task['id']}", body, token=token, marker=marker))
    assert len(requests) == count, f"{count} changes can't be shared out among {writers} writers"
    return requests


async def _burst(system: BenchedSystem, events: int) -> None:
    database = await asyncpg.connect(system.database_url)
    try:
        # Those before are to be through, so that none of them comes with the burst.
        await wait_until_async(lambda: database.fetchval(NUMBERED), what="the changes' numbers")
        await database.execute(COPIES, events)
    finally:
        await database.close()


def _delays(begun: Sequence[float], arrivals: Arrivals, changes: Changes) -> Delays:
    paced = zip(begun[: changes.count], arrivals.last, strict=False)
    milliseconds = [(at - start) * 1000 for start, at in paced]
    rate = None
    if changes.burst:
        rate = changes.burst / (arrivals.last[-1] - arrivals.first[changes.count])
    return Delays(milliseconds, arrivals.texts, rate)
