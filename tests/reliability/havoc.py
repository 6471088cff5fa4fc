"""Striking what carries the events, one thing after the other."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from app.core.redis import REDIS_FAILURES
from tests.reliability.system import ChaosSystem
from tests.utils.test_utils import wait_until_async


class Havoc:
    """Kills with SIGKILL, and flushes: each time when that many more things were done, and a killed process is back.

    Valkey may still be away, for the keeper lets a server rest that keeps dying.
    """

    def __init__(self, system: ChaosSystem, *, done: Callable[[], int], every: int) -> None:
        self.struck: Counter[str] = Counter()
        self._system = system
        self._done = done
        self._every = every

    async def run(self, until: int) -> None:
        """Go on until that many things were done; all that was killed is back then."""
        while self._done() < until:
            ways = [[self._kill_api], [self._kill_relay], [self._kill_valkey], [self._flush_valkey]]
            # And two of them at the same moment.
            ways.append(random.choice(ways) + random.choice(ways))
            for way in random.sample(ways, len(ways)):
                await self._until_more_is_done(until)
                await asyncio.gather(*(kill() for kill in dict.fromkeys(way)))
        await self._system.until_valkey_is_back()

    async def _until_more_is_done(self, until: int) -> None:
        goal = min(self._done() + self._every, until)

        async def is_done() -> bool:
            return self._done() >= goal

        await wait_until_async(is_done, what=f"{goal} things done")

    async def _kill_api(self) -> None:
        victim = random.choice(self._system.apis)
        victim.restart()
        self.struck["API killed"] += 1
        await victim.until_ready()

    async def _kill_relay(self) -> None:
        victim = await self._system.active_relay()
        victim.kill()
        self.struck["active relay killed"] += 1
        await self._system.active_relay()
        victim.start()

    async def _kill_valkey(self) -> None:
        if self._system.valkey_pid is not None:
            self._system.kill_valkey()
            self.struck["Valkey killed"] += 1

    async def _flush_valkey(self) -> None:
        # Unless it's away.
        with suppress(*REDIS_FAILURES):
            await self._system.redis.flushall()
            self.struck["Valkey flushed"] += 1


@asynccontextmanager
async def running(work: Iterable[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Do all this beside the block, which fails when any of it does; at its end it's left off."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
        yield
        for task in tasks:
            task.cancel()
