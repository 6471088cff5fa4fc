"""Making a long backlog quickly: the events of one task's life, copied as the application wrote them."""

from uuid import UUID

import asyncpg
import httpx2

from bench.groups.replay import Backlog
from bench.own_system import BenchedSystem
from tests.utils.test_utils import wait_until_async

LIFE = 4
COPIES = """
    INSERT INTO events (id, type, actor_id, actor_type, task_id, task_version, audience, data)
    SELECT gen_random_uuid(), type, actor_id, actor_type, gen_random_uuid(), task_version, audience, data
    FROM events, generate_series(1, $2) AS copy WHERE task_id = $1 ORDER BY copy, task_version
"""


async def make_backlog(system: BenchedSystem, *, count: int) -> Backlog:
    """`count` (a multiple of `LIFE`) events, numbered and published by the relay."""
    database = await asyncpg.connect(system.database_url)
    try:
        task_id = await _live_one_life(system)
        await wait_until_async(lambda: _is_published(database), what="the events of one task")
        start = await database.fetchval("SELECT last_seq FROM event_log")
        await database.execute(COPIES, task_id, count // LIFE)
        await wait_until_async(lambda: _is_published(database), timeout=60, what="the copied events")
        assert await database.fetchval("SELECT last_seq FROM event_log") == start + count
    finally:
        await database.close()
    return Backlog(start, count)


async def _live_one_life(system: BenchedSystem) -> UUID:
    """A task that is made, edited, claimed and completed; its id."""
    headers = {"Authorization": f"Bearer {system.people[0].token}"}
    async with httpx2.AsyncClient(base_url=system.api, headers=headers) as http:
        body = {
            "title": "Water the orchids",
            "description": "Twice a week, not in the sun. " * 8,
            "status": "available",
        }
        task = (await http.post("/tasks", json=body)).raise_for_status().json()
        place = f"/tasks/{task['id']}"
        (await http.patch(place, json={"priority": "high"})).raise_for_status()
        (await http.post(f"{place}/claim")).raise_for_status()
        (await http.put(f"{place}/status", json={"status": "completed"})).raise_for_status()
    return UUID(task["id"])


async def _is_published(database: asyncpg.Connection) -> bool:
    waiting = "SELECT NOT EXISTS (SELECT FROM events WHERE seq IS NULL) AND last_seq = published_seq FROM event_log"
    return bool(await database.fetchval(waiting))
