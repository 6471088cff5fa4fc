"""Programs that are started for one figure: the bare servers of the ceilings, and API processes of one's own."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.own_system import BenchedSystem
from tests.utils.processes import HiveProcess, free_port
from tests.utils.test_utils import wait_until_async


@dataclass(frozen=True, slots=True)
class Listening:
    """A process that takes connections at `address`."""

    address: str
    pid: int

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


@asynccontextmanager
async def bare_events(system: BenchedSystem) -> AsyncIterator[Listening]:
    port = free_port()
    module = "bench.ceilings.bare_events"
    async with listening(
        system.environment, [module, str(port), system.database_url, system.redis_url], port
    ) as process:
        yield process


@asynccontextmanager
async def bare_sockets(system: BenchedSystem) -> AsyncIterator[Listening]:
    port = free_port()
    async with listening(system.environment, ["bench.ceilings.bare_sockets", str(port)], port) as process:
        yield process


@asynccontextmanager
async def further_api(system: BenchedSystem) -> AsyncIterator[Listening]:
    """One more API process of the system, that nothing has happened in yet."""
    async with listening(system.environment, ["app.cli", "api"], free_port()) as process:
        yield process


@asynccontextmanager
async def listening(environment: Mapping[str, str], command: list[str], port: int) -> AsyncIterator[Listening]:
    """A module with its arguments as a process, once it takes connections."""
    with HiveProcess(["-m", *command], {**environment, "PORT": str(port)}, may_be_forked=False) as process:

        async def takes_connections() -> bool:
            assert process.process.poll() is None, process.output
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return False
            writer.close()
            return True

        await wait_until_async(takes_connections, what=f"{command[0]} at its port")
        yield Listening(f"http://127.0.0.1:{port}", process.process.pid)
