"""What each idle socket takes of the memory of its process: how much that grows over many of them."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx2
from websockets.asyncio.client import ClientConnection, connect

from bench.own_system import BenchedSystem, socket_of
from bench.processes import Listening, bare_sockets, further_api
from bench.vital_signs import pss_kib

PATIENCE = 120.0
CONNECTING_AT_ONCE = 20
# The first ones open connections to the database and fill caches, which are not theirs.
WARM_UP = 20


async def memory_of_hive(system: BenchedSystem, count: int) -> float:
    """KiB a socket in an API process of its own, shared out among the people. Each is proven to be live."""
    tokens = [person.token for person in system.people]
    async with further_api(system) as api:
        addresses = [f"{socket_of(api.address)}?token={tokens[n % len(tokens)]}" for n in range(count)]
        async with _grown(api, addresses) as (kib, sockets):
            await _change_something(system, tokens[0])
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(_until_told(socket) for socket in sockets))
    return kib


async def memory_of_ceiling(system: BenchedSystem, count: int) -> float:
    async with bare_sockets(system) as bare, _grown(bare, [socket_of(bare.address)] * count) as (kib, _):
        return kib


@asynccontextmanager
async def _grown(
    process: Listening, addresses: Sequence[str]
) -> AsyncIterator[tuple[float, Sequence[ClientConnection]]]:
    """The growth for each socket, in KiB, and the sockets, which are still open."""
    async with _held(addresses[:WARM_UP]):
        pass
    before = pss_kib(process.pid)
    async with _held(addresses) as sockets:
        yield (pss_kib(process.pid) - before) / len(addresses), sockets


@asynccontextmanager
async def _held(addresses: Sequence[str]) -> AsyncIterator[Sequence[ClientConnection]]:
    """Open sockets that answered a moment ago."""
    places = asyncio.Semaphore(CONNECTING_AT_ONCE)

    async def opened(address: str) -> ClientConnection:
        async with places:
            # A client whose own queue is full would stop reading.
            return await connect(address, proxy=None, compression=None, max_queue=None, ping_interval=None)

    async with asyncio.timeout(PATIENCE):
        sockets = await asyncio.gather(*(opened(address) for address in addresses))
        await asyncio.gather(*(_answered_ping(socket) for socket in sockets))
    try:
        yield sockets
    finally:
        await asyncio.gather(*(socket.close() for socket in sockets))


async def _answered_ping(socket: ClientConnection) -> None:
    await (await socket.ping())


async def _change_something(system: BenchedSystem, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(base_url=system.api, headers=headers) as http:
        (await http.post("/tasks", json={"title": "Water all", "status": "available"})).raise_for_status()


async def _until_told(socket: ClientConnection) -> None:
    while json.loads(await socket.recv())["type"] != "task.created":
        pass
