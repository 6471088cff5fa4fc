"""Requests that hold every connection of their process to the database, and the events that go on nevertheless."""

import asyncio
from collections import Counter
from time import monotonic
from uuid import UUID

import pytest

from app.core.permissions import Actor, Permission, access_task
from app.services import ChatService
from tests.reliability.havoc import running
from tests.reliability.log import check_readers, read_log, until_all_have
from tests.reliability.readers import SteadySocketReader
from tests.reliability.scale import Report, Scale
from tests.reliability.sockets import opened, receive
from tests.reliability.system import ChaosSystem
from tests.utils.test_utils import PATIENCE, wait_until_async

pytestmark = pytest.mark.reliability

# Of six connections four are for requests, and one of those is for reads alone.
POOL = 6
MOST_CHANGES = 3


async def test_events_come_while_requests_hold_all_connections(scale: Scale, report: Report) -> None:
    settings = {"DATABASE_POOL_SIZE": str(POOL), "REDIS_URL": "unix:///nowhere/at-all.sock"}
    async with ChaosSystem(apis=1, relays=1, settings=settings) as system:
        user = await system.user("Ada")
        async with system.client(user) as http, opened(system, user) as socket:
            task = (await http.post("/tasks", json={"title": "Orchids", "status": "available"})).json()
            await receive(socket, "task.created")
            async with system.database.unit_of_work() as session:
                await access_task(session, Actor.of(user), UUID(task["id"]), Permission.TASK_EDIT, lock=True)
                place, body = f"/tasks/{task['id']}", {"title": "Roses"}
                edits = [asyncio.create_task(http.patch(place, json=body)) for _ in range(3 * MOST_CHANGES)]
                await until_lock_is_waited_for(system, MOST_CHANGES)
                began = monotonic()
                async with system.database.unit_of_work() as other:
                    await ChatService(other).say(Actor.of(user), "Is anybody there?")
                await receive(socket, "chat.message")
                seconds = monotonic() - began
                still_waiting = sum(not edit.done() for edit in edits)
            await asyncio.gather(*edits)

    report.add("requests that were waiting", still_waiting)
    report.add("seconds until the event had come", f"{seconds:.1f}")
    assert still_waiting >= MOST_CHANGES
    assert seconds < scale(4, short=PATIENCE)


async def until_lock_is_waited_for(system: ChaosSystem, count: int) -> None:
    """Wait until that many requests of the API wait for the lock of a row, each with a connection of its own."""
    waiters = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'hive api%'"

    async def are_there() -> bool:
        return len(await system.sql(waiters)) == count

    await wait_until_async(are_there, what=f"{count} requests that wait for a lock")


async def test_requests_are_answered_while_a_crowd_of_sockets_comes_back(scale: Scale, report: Report) -> None:
    async with ChaosSystem(apis=1, relays=1) as system:
        users = [await system.user(f"Reader {n}") for n in range(scale(100, short=30))]
        readers = [SteadySocketReader(user, system.token_of(user), system.apis) for user in users * 10]
        async with system.client(users[0]) as http:
            await http.post("/tasks", json={"title": "Orchids", "status": "available"})
            log = await read_log(system)
            seconds: list[float] = []
            statuses = Counter[int]()
            async with running(reader.run() for reader in readers):
                while any(not reader.events for reader in readers):
                    began = monotonic()
                    statuses[(await http.get("/users/me")).status_code] += 1
                    seconds.append(monotonic() - began)
                await until_all_have(readers, log)

    report.add("sockets", len(readers))
    report.add("sockets that were asked to come back later", sum(reader.happened["broken"] for reader in readers))
    report.add("requests meanwhile", statuses.total())
    report.add("seconds that one of them took, longest", f"{max(seconds):.1f}")
    assert set(statuses) == {200}
    check_readers(readers, log)
