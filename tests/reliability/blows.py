"""What befalls the parts that carry jobs and do them."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from tests.reliability.system import ChaosSystem

FROZEN_SECONDS = 8.0
ROUNDS = 3

Blow = Callable[[], Awaitable[None]]


class Blows:
    """Each strikes the system and sees to it that what died is started again, but not that it's ready."""

    def __init__(self, system: ChaosSystem) -> None:
        self._system = system
        self.struck: Counter[str] = Counter()

    def light(self) -> Sequence[Blow]:
        return [self.kill_a_worker, self.flush_valkey, self.kill_valkey]

    def heavy(self) -> Sequence[Blow]:
        round_ = [
            self.kill_a_worker,
            self.flush_valkey,
            self.kill_valkey,
            self.kill_all_workers,
            self.freeze_valkey,
            self.kill_the_scheduler,
            self.flush_valkey,
            self.kill_the_relay,
            self.kill_everything,
        ]
        return round_ * ROUNDS

    async def kill_a_worker(self) -> None:
        self.struck["a worker killed"] += 1
        self._system.workers[0].restart()

    async def kill_all_workers(self) -> None:
        self.struck["all workers killed"] += 1
        for worker in self._system.workers:
            worker.kill()
        for worker in self._system.workers:
            worker.start()

    async def kill_the_scheduler(self) -> None:
        self.struck["the scheduler killed"] += 1
        self._system.schedulers[0].restart()

    async def kill_the_relay(self) -> None:
        self.struck["the relay killed"] += 1
        self._system.relays[0].restart()

    async def kill_valkey(self) -> None:
        self.struck["Valkey killed"] += 1
        await self._system.until_valkey_is_back(self._system.kill_valkey())

    async def flush_valkey(self) -> None:
        self.struck["Valkey flushed"] += 1
        await self._system.redis.flushall()

    async def freeze_valkey(self) -> None:
        self.struck[f"Valkey frozen for {FROZEN_SECONDS:g} s"] += 1
        pid = self._system.valkey_pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(FROZEN_SECONDS)
        os.kill(pid, signal.SIGCONT)

    async def kill_everything(self) -> None:
        """All at once, but for the database and the API, and what Valkey had is gone as well."""
        await self.kill_the_scheduler()
        await self.kill_the_relay()
        await self.kill_all_workers()
        await self.kill_valkey()
        await self.flush_valkey()
