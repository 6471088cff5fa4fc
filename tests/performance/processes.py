"""Programs that are started for one figure: the bare servers of the ceilings, and API processes of one's own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.performance.own_system import BenchedSystem
from tests.utils.processes import HiveProcess, free_port
from tests.utils.test_utils import wait_until_async


@dataclass(frozen=True, slots=True)
class Listening:
    """A process that takes connections at `address`."""

    address: str
    pid: int


@asynccontextmanager
async def bare_events(system: BenchedSystem) -> AsyncIterator[Listening]:
    port = free_port()
    module = "tests.performance.realtime.bare_events"
    async with _listening(system, [module, str(port), system.database_url, system.redis_url], port) as process:
        yield process


@asynccontextmanager
async def bare_sockets(system: BenchedSystem) -> AsyncIterator[Listening]:
    port = free_port()
    async with _listening(system, ["tests.performance.realtime.bare_sockets", str(port)], port) as process:
        yield process


@asynccontextmanager
async def further_api(system: BenchedSystem) -> AsyncIterator[Listening]:
    """One more API process of the system, that nothing has happened in yet."""
    async with _listening(system, ["app.cli", "api"], free_port()) as process:
        yield process


@asynccontextmanager
async def _listening(system: BenchedSystem, command: list[str], port: int) -> AsyncIterator[Listening]:
    with HiveProcess(["-m", *command], {**system.environment, "PORT": str(port)}) as process:

        async def takes_connections() -> bool:
            assert process.process.poll() is None, process.output
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return False
            writer.close()
            return True

        await wait_until_async(takes_connections, timeout=30, what=f"{command[0]} at its port")
        yield Listening(f"http://127.0.0.1:{port}", process.process.pid)
