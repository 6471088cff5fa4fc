"""Two systems, each with a PostgreSQL of its own, on one database of one Redis: neither notices the other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.builders.users import create_user
from tests.reliability.sockets import opened, receive
from tests.reliability.system import ChaosSystem
from tests.utils.test_utils import wait_until_async

pytestmark = pytest.mark.reliability

PREFIXES = ("hive", "second:hive")
REQUESTS = 40


@asynccontextmanager
async def two_systems(**parts: int) -> AsyncIterator[tuple[ChaosSystem, ChaosSystem, Redis]]:
    """Two systems, and a client of the Redis that they share. Each signs in there as a user of its own."""
    async with ChaosSystem() as shared, AsyncExitStack() as stack:
        systems = []
        for prefix in PREFIXES:
            user = prefix.replace(":", "-")
            # Celery asks for its channels by a pattern, which has to be written in full for Redis to allow it.
            channels = [f"{prefix}:*", f"{prefix}:celery:/0.celery.pidbox"]
            rights = (f"~{prefix}:*", *(f"&{channel}" for channel in channels), "+@all", "-@dangerous", "+info")
            await shared.redis.execute_command("ACL", "SETUSER", user, "on", ">secret", *rights)  # type: ignore[no-untyped-call]
            address = shared.redis_url.replace("unix://", f"unix://{user}:secret@")
            settings = {"REDIS_URL": address, "REDIS_PREFIX": prefix, "REQUESTS_PER_MINUTE": str(REQUESTS)}
            systems.append(await stack.enter_async_context(ChaosSystem(**parts, settings=settings)))
        yield systems[0], systems[1], shared.redis


async def test_two_systems_share_a_redis_and_nothing_in_it() -> None:
    async with two_systems(apis=1, relays=1, workers=1, schedulers=1) as (*systems, redis):
        heard = await asyncio.gather(*(complete_a_task(system) for system in systems))

        for system, (task_id, events) in zip(systems, heard, strict=True):
            assert {event["task"]["id"] for event in events} == {task_id}
            assert await system.sql("SELECT name, last_error FROM jobs WHERE state = 'dead'") == []
        keys = {key async for key in redis.scan_iter()}
        for prefix in PREFIXES:
            kinds = {key.removeprefix(f"{prefix}:").split(":")[0] for key in keys if key.startswith(f"{prefix}:")}
            # There is no key of presence once nobody is online.
            assert kinds | {"presence"} == {"presence", "workers", "outside-workers", "limits", "events", "celery"}
        assert {key for key in keys if not key.startswith(PREFIXES)} == set()
        # Neither has asked for anything that the other's prefix, or none, is on.
        assert await redis.acl_log() == []


async def test_users_and_limits_of_one_system_are_not_those_of_another() -> None:
    async with two_systems(apis=1) as (first, second, _):
        user = await first.user("Ada")
        # The same account in both, as in a copy of a database.
        async with second.database.unit_of_work() as session:
            await create_user(session, id=user.id, display_name="Ada")
        async with opened(first, user), first.client(user) as here, second.client(user) as there:
            assert [entry["id"] for entry in (await here.get("/users/online")).json()] == [str(user.id)]
            assert (await there.get("/users/online")).json() == []

            answers = [(await here.get("/users/me")).status_code for _ in range(REQUESTS)]
            assert (answers[0], answers[-1]) == (200, 429)
            assert (await there.get("/users/me")).status_code == 200


async def complete_a_task(system: ChaosSystem) -> tuple[str, list[dict[str, Any]]]:
    """Complete a task and wait for its job. Return its id, and the events that a socket got meanwhile."""
    owner, holder = await system.user("Owner"), await system.user("Holder")
    events: list[dict[str, Any]] = []
    async with opened(system, owner) as socket, system.client(owner) as owners, system.client(holder) as holders:
        asked = {"title": "Water the orchids", "status": "available", "impact_points": 5}
        task = (await owners.post("/tasks", json=asked)).raise_for_status().json()
        (await holders.post(f"/tasks/{task['id']}/claim")).raise_for_status()
        (await holders.put(f"/tasks/{task['id']}/status", json={"status": "completed"})).raise_for_status()
        while not events or events[-1]["data"].get("new_status") != "completed":
            events.append(await receive(socket, "task.created", "task.assigned", "task.status_changed"))

        async def is_scored() -> bool:
            return bool((await holders.get("/users/me")).json()["impact_score"] == 5)

        await wait_until_async(is_scored, what="the job of a completed task")
    return task["id"], events
