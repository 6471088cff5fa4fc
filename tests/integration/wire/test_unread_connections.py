"""Clients that never read: what they leave at the server is gone within half a minute."""

import asyncio
import base64
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from app.cli.listening import UNREAD_MILLISECONDS, listen
from app.config import Settings
from app.models import User
from tests.conftest import RunningSystem, token_of
from tests.utils.metrics import Scrape
from tests.utils.processes import HiveProcess, answers, free_port
from tests.utils.test_utils import PATIENCE, wait_until, wait_until_async

pytestmark = pytest.mark.committed


@pytest.fixture(scope="module")
def ports(system_environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    """Those of an API process, for requests and for scrapers."""
    port, metrics_port = free_port(), free_port()
    environment = system_environment | {"PORT": str(port), "METRICS_PORT": str(metrics_port), "LOG_LEVEL": "WARNING"}
    with HiveProcess(["-m", "app.cli", "api"], environment) as api:
        wait_until(lambda: answers(f"http://127.0.0.1:{metrics_port}/metrics", api), what="the API")
        yield port, metrics_port


@pytest.fixture
async def scraper(ports: tuple[int, int]) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{ports[1]}", timeout=PATIENCE) as client:
        yield client


def call(port: int, request: str) -> socket.socket:
    """A client that asks, and has room for little of the answer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(f"{request}\r\nHost: 127.0.0.1:{port}\r\n".encode())
    return client


def open_socket(port: int, token: str, query: str = "") -> socket.socket:
    client = call(port, f"GET /ws?token={token}{query} HTTP/1.1")
    key = base64.b64encode(os.urandom(16)).decode()
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    client.sendall(f"{upgrade}Sec-WebSocket-Key: {key}\r\n\r\n".encode())
    return client


def open_stream(port: int, token: str) -> socket.socket:
    client = call(port, "GET /api/v1/events/stream HTTP/1.1")
    client.sendall(f"Authorization: Bearer {token}\r\n\r\n".encode())
    return client


def is_known_to_kernel(server_port: int, client: socket.socket) -> bool:
    """Whether the server's end of the connection is still there, with what nobody read."""
    ends = (server_port, client.getsockname()[1])
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return ends in {tuple(int(end.rpartition(":")[2], 16) for end in row[1:3]) for row in rows}


async def test_readers_that_take_nothing_are_gone_within_half_a_minute(
    ports: tuple[int, int],
    running_system: RunningSystem,
    scraper: httpx2.AsyncClient,
    settings: Settings,
    user: User,
) -> None:
    token, port = token_of(user, settings), ports[0]

    async def are_there(sockets: int, streams: int) -> bool:
        found = Scrape(await scraper.get("/metrics"))
        return [found.value("hive_readers", kind=kind) for kind in ("socket", "stream")] == [sockets, streams]

    with ExitStack() as stack:
        # The quiet one wants what doesn't happen, so that nothing but the question whether it's there reaches it.
        quiet = open_socket(port, token, f"&task_id={uuid4()}")
        full = [open_socket(port, token), open_stream(port, token)]
        for client in (quiet, *full):
            stack.enter_context(client)
        await wait_until_async(partial(are_there, 2, 1), what="three readers")
        await write_until_both_are_too_slow(scraper, running_system, token)

        await wait_until_async(partial(are_there, 0, 0), what="all readers to be gone")

        assert not any(is_known_to_kernel(port, client) for client in full)


async def write_until_both_are_too_slow(scraper: httpx2.AsyncClient, system: RunningSystem, token: str) -> None:
    body = {"title": "Bees", "status": "available", "description": "🐝" * 20_000}
    headers = {"Authorization": f"Bearer {token}"}

    async def are_too_slow() -> bool:
        found = Scrape(await scraper.get("/metrics"))
        return all(found.value("hive_readers_too_slow_total", kind=kind) == 1 for kind in ("socket", "stream"))

    async with (
        httpx2.AsyncClient(base_url=system.address, headers=headers, timeout=PATIENCE) as http,
        # To make so many large tasks takes a busy machine a while.
        asyncio.timeout(2.5 * PATIENCE),
    ):
        while not await are_too_slow():
            await asyncio.gather(*(http.post("/tasks", json=body) for _ in range(8)))


@pytest.mark.parametrize("which", ["requests", "scrapers"])
def test_each_connection_has_the_time_out_of_its_listener(settings: Settings, which: str) -> None:
    listeners = listen(settings.model_copy(update={"port": free_port(), "metrics_port": free_port()}))
    [listener] = getattr(listeners, which)

    with socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()

    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNREAD_MILLISECONDS == 15_000
    connection.close()
    listeners.close()
