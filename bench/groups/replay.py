"""How long one reader waits for all that it missed, by each of the ways to read on."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import httpx2
from websockets.asyncio.client import connect

from bench.own_system import BenchedSystem
from bench.processes import Listening

PATIENCE = 120.0
PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Backlog:
    """`count` events that everybody may see, after the position `start`."""

    start: int
    count: int

    @property
    def seqs(self) -> list[int]:
        return list(range(self.start + 1, self.start + self.count + 1))


@dataclass(frozen=True, slots=True)
class Replay:
    """How many seconds from the first step of connecting to the last event, and which came in which order."""

    seconds: float
    seqs: Sequence[int]


async def by_socket(system: BenchedSystem, token: str, backlog: Backlog) -> Replay:
    return await _from_socket(f"{system.socket}?token={token}&since={backlog.start}", backlog.count)


async def by_stream(system: BenchedSystem, token: str, backlog: Backlog) -> Replay:
    """Server-sent events. Only their number is looked at while the clock runs."""
    headers = {"Authorization": f"Bearer {token}", "Last-Event-ID": str(backlog.start)}
    chunks: list[bytes] = []
    count = 0
    async with asyncio.timeout(PATIENCE), httpx2.AsyncClient(base_url=system.api, headers=headers) as http:
        started = time.perf_counter()
        async with http.stream("GET", "/events/stream") as answer:
            async for chunk in answer.aiter_raw():
                # An empty line ends each event; it may come in two pieces.
                count += ((chunks[-1][-1:] if chunks else b"") + chunk).count(b"\n\n")
                chunks.append(chunk)
                if count >= backlog.count:
                    break
        seconds = time.perf_counter() - started
    lines = b"".join(chunks).decode().splitlines()
    return Replay(seconds, [int(line.removeprefix("id: ")) for line in lines if line.startswith("id: ")])


async def by_pages(system: BenchedSystem, token: str, backlog: Backlog) -> Replay:
    headers = {"Authorization": f"Bearer {token}"}
    seqs: list[int] = []
    after = backlog.start
    async with asyncio.timeout(PATIENCE), httpx2.AsyncClient(base_url=system.api, headers=headers) as http:
        started = time.perf_counter()
        while len(seqs) < backlog.count:
            answer = await http.get("/events", params={"after": after, "limit": PAGE})
            page = answer.raise_for_status().json()
            seqs += [event["seq"] for event in page["events"]]
            after = page["next"]
        seconds = time.perf_counter() - started
    return Replay(seconds, seqs)


async def by_bare_socket(bare: Listening, backlog: Backlog) -> Replay:
    """The ceiling of all three: rows in pages, and texts that are ready, without HIVE."""
    address = bare.address.replace("http", "ws")
    async with connect(f"{address}/prepare?after={backlog.start}", proxy=None) as socket:
        await socket.recv()
    return await _from_socket(f"{address}/replay?after={backlog.start}", backlog.count)


WAYS: dict[str, Callable[[BenchedSystem, str, Backlog], Awaitable[Replay]]] = {
    "socket": by_socket,
    "server-sent events": by_stream,
    "pages": by_pages,
}


async def _from_socket(address: str, count: int) -> Replay:
    async with asyncio.timeout(PATIENCE):
        started = time.perf_counter()
        async with connect(address, proxy=None, compression=None) as socket:
            texts = [await socket.recv(decode=True) for _ in range(count)]
            seconds = time.perf_counter() - started
    return Replay(seconds, [json.loads(text)["seq"] for text in texts])
