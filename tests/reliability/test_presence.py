"""Presence when servers die: users with a socket at another one stay online, and nobody else for long."""

from time import monotonic

import pytest
from websockets.asyncio.client import ClientConnection

from app.models import User
from app.websockets.presence import KEY, LIFETIME_SECONDS
from tests.reliability.havoc import running
from tests.reliability.scale import Report, Scale
from tests.reliability.sockets import opened, receive
from tests.reliability.system import ChaosSystem
from tests.utils.test_utils import PATIENCE, wait_until_async

pytestmark = pytest.mark.reliability

PROMISED_SECONDS = 60


async def test_a_user_is_online_until_their_last_server_is_dead(scale: Scale, report: Report) -> None:
    promised = scale(PROMISED_SECONDS, short=2 * PATIENCE)
    async with ChaosSystem(apis=3, relays=1) as system:
        user, watcher = await system.user("Ada"), await system.user("Grace")
        async with system.client(watcher, api=2) as http, opened(system, watcher, api=2) as watching:
            told: list[tuple[str, str]] = []

            async def online() -> set[str]:
                return {entry["id"] for entry in (await http.get("/users/online")).json()}

            async with (
                running([note_presence(watching, told)]),
                opened(system, user, api=0),
                opened(system, user, api=0),
            ):
                [first] = await leases(system, user, 1)
                async with opened(system, user, api=1):
                    [second] = await leases(system, user, 2) - {first}

                    system.apis[0].kill()
                    await lease_runs_out(system, first, is_waited_for=scale(True, short=False))
                    assert await online() == {str(user.id), str(watcher.id)}
                    assert told == [("user.online", str(user.id))]

                    system.apis[1].kill()
                    began = monotonic()
                    await lease_runs_out(system, second, is_waited_for=scale(True, short=False))

                    async def is_offline() -> bool:
                        return await online() == {str(watcher.id)} and len(told) > 1

                    await wait_until_async(is_offline, timeout=promised, what="a user who is offline")
                    seconds = monotonic() - began

    report.add("seconds until the user was offline", f"{seconds:.1f}")
    assert told == [("user.online", str(user.id)), ("user.offline", str(user.id))]
    assert seconds < promised


async def note_presence(socket: ClientConnection, told: list[tuple[str, str]]) -> None:
    while True:
        message = await receive(socket, "user.online", "user.offline", timeout=None)
        told.append((message["type"], message["data"]["user_id"]))


async def leases(system: ChaosSystem, user: User, count: int) -> set[str]:
    """The entries that processes have made for the user, as soon as there are so many."""

    async def look() -> set[str]:
        entries = {str(entry) for entry in await system.redis.zrange(system.redis.key(KEY), 0, -1)}
        found = {entry for entry in entries if entry.startswith(str(user.id))}
        return found if len(found) == count else set()

    return await wait_until_async(look, what=f"{count} entries of a user who is online")


async def lease_runs_out(system: ChaosSystem, lease: str, *, is_waited_for: bool) -> None:
    """Nobody renews it any more. Unless it's waited for, it's as if its time had passed already."""
    if not is_waited_for:
        await system.redis.zincrby(system.redis.key(KEY), -LIFETIME_SECONDS, lease)

    async def is_gone() -> bool:
        return await system.redis.zscore(system.redis.key(KEY), lease) is None

    await wait_until_async(is_gone, what="the end of a lease")
