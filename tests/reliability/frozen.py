"""Sockets that read all that comes, and sockets that never read."""

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Self

from websockets.asyncio.client import ClientConnection, connect

from tests.reliability.parts import Api
from tests.utils.test_utils import wait_until_async

# The smallest that the kernel gives, so that what a frozen client lets lie fills the server's side soon.
RECEIVE_BUFFER = 4096
HANDSHAKE = (
    "GET /ws?token={token}&types=task.created HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
HEADER = re.compile(r'"seq":(\d+),"type":"task.created","timestamp":"([^"]+)"')
TIME_WAIT = "06"


class Listeners:
    """Sockets that read, and the seconds from the transaction of each event to its arrival at each of them."""

    def __init__(self, api: Api, token: str, number: int) -> None:
        self.delays: list[float] = []
        self._address = f"{api.socket_address}?token={token}&types=task.created"
        self._number = number
        self._written_at: dict[int, float] = {}
        self._bytes = 0

    @property
    def bytes_each(self) -> float:
        """That have come to each of them."""
        return self._bytes / self._number

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Self]:
        async with asyncio.TaskGroup() as group:
            sockets = [await connect(self._address, proxy=None, compression=None) for _ in range(self._number)]
            reading = [group.create_task(self._listen(one)) for one in sockets]
            yield self
            for task in reading:
                task.cancel()
            for one in sockets:
                one.transport.abort()

    async def until_heard(self, events: int) -> list[float]:
        """The delays of that many events at all of them; those of the next events are counted anew."""

        async def have_heard() -> bool:
            return len(self.delays) >= events * self._number

        await wait_until_async(have_heard, what=f"{events} events at {self._number} readers")
        heard, self.delays = self.delays, []
        return heard

    async def _listen(self, one: ClientConnection) -> None:
        async for message in one:
            self._hear(str(message), time.time())
        raise AssertionError(f"a socket that reads was closed with {one.close_code}")

    def _hear(self, message: str, now: float) -> None:
        found = HEADER.search(message, 0, 300)
        assert found is not None, message
        self._bytes += len(message)
        seq = int(found[1])
        if seq not in self._written_at:
            self._written_at[seq] = datetime.fromisoformat(found[2]).timestamp()
        self.delays.append(now - self._written_at[seq])


class FrozenSockets:
    """Sockets that are signed in and never read from."""

    def __init__(self, api: Api, token: str) -> None:
        self._api = api
        self._token = token
        self._ports: set[int] = set()

    @asynccontextmanager
    async def opened(self, number: int) -> AsyncIterator[Self]:
        with ExitStack() as stack:
            for _ in range(number):
                frozen = stack.enter_context(socket.socket())
                await asyncio.to_thread(self._open, frozen)
                self._ports.add(frozen.getsockname()[1])
            yield self

    def unsent(self) -> dict[int, int]:
        """Of those that the server still has, whatever it may call their state: the bytes that its kernel holds."""
        return {port: unsent for port, unsent in _peers_of(self._api.port) if port in self._ports}

    def _open(self, frozen: socket.socket) -> None:
        frozen.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        frozen.settimeout(20)
        frozen.connect(("127.0.0.1", self._api.port))
        frozen.sendall(HANDSHAKE.format(token=self._token, port=self._api.port).encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += frozen.recv(1)
        assert answer.startswith(b"HTTP/1.1 101 "), answer


def _peers_of(port: int) -> Iterator[tuple[int, int]]:
    """The other ends' ports of all connections of a server, with the bytes that they have yet to take."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, queues, *_ = line.split()
        if int(local.rpartition(":")[2], 16) == port and state != TIME_WAIT:
            yield int(remote.rpartition(":")[2], 16), int(queues.partition(":")[0], 16)
