"""Other users, who go on working while HIVE is attacked. How long each answer takes is noted."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2

from tests.utils.test_utils import PATIENCE

PAUSE_SECONDS = 0.02
# One request in so many comes by a connection of its own.
FRESH_EVERY = 10


@dataclass
class Witness:
    """`seconds` of each answer; `faults` are the requests that got none, or another one than they should."""

    address: str
    # Of several users, or they would reach the limit of requests.
    tokens: Sequence[str]
    seconds: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def percentile(self, percent: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)] if ordered else 0.0

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        working = asyncio.create_task(self._work())
        try:
            yield
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def _work(self) -> None:
        async with self._client() as client:
            number = 0
            while True:
                number += 1
                path = "/health" if number % 4 == 0 else "/users/me"
                if number % FRESH_EVERY:
                    await self._ask(client, path)
                else:
                    async with self._client() as fresh:
                        await self._ask(fresh, path)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _ask(self, client: httpx2.AsyncClient, path: str) -> None:
        started = time.perf_counter()
        try:
            token = self.tokens[len(self.seconds) % len(self.tokens)]
            answer = await client.get(path, headers={"Authorization": f"Bearer {token}"})
        except httpx2.TransportError as error:
            self.faults.append(f"{path}: {error!r}")
        else:
            if answer.status_code != 200:
                self.faults.append(f"{path}: {answer.status_code}")
        finally:
            # Even if the attack ended before the answer came.
            self.seconds.append(time.perf_counter() - started)

    def _client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=self.address, timeout=PATIENCE, verify=False)
