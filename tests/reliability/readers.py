"""Readers of events as a client would write them, of each kind that HIVE has, which drop and resume at random.

Each keeps the `seq` of the last event that it dealt with, asks for what follows, and believes what it gets: repeats,
gaps and disorder end up in its list, which a test compares with the log.
"""

import asyncio
import json
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from time import time
from typing import Any, ClassVar

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from app.models import User
from tests.reliability.parts import Api
from tests.utils.test_utils import PATIENCE

Event = dict[str, Any]
# What a client meets when the server or the way to it breaks.
BREAKS = (OSError, httpx2.TransportError, ConnectionClosed, InvalidHandshake, EOFError)
# 1012 and 1013: it stops, or can't sign anyone in. 4008: we read too slowly. 1006: it was killed.
CLOSINGS = frozenset({1001, 1006, 1012, 1013, 4008})
LONGEST_ABSENCE = 1.0


class Lags:
    """How long after its transaction began each event was first seen by anybody."""

    def __init__(self) -> None:
        self.by_seq: dict[int, float] = {}

    def note(self, event: Event) -> None:
        if event["seq"] not in self.by_seq:
            self.by_seq[event["seq"]] = time() - datetime.fromisoformat(event["timestamp"]).timestamp()


class Reader(ABC):
    """Reads from one of the servers, and goes on at the next one when that breaks. `on_event` gets each event."""

    kind: ClassVar[str]
    # Seconds; None is for as long as the connection holds.
    longest_stay: float | None = 3.0

    def __init__(
        self,
        user: User,
        token: str,
        apis: Sequence[Api],
        *,
        after: int = 0,
        on_event: Callable[[Event], None] = lambda _event: None,
    ) -> None:
        self.user = user
        self.position = after
        self.events: list[tuple[int, str]] = []
        self.faults: list[str] = []
        self.happened: Counter[str] = Counter()
        self._token = token
        self._apis = apis
        self._turn = 0
        self._on_event = on_event
        # Nothing is encrypted here, and to load the certificates for it takes 20 ms.
        self._client = httpx2.AsyncClient(timeout=PATIENCE, headers={"Authorization": f"Bearer {token}"}, verify=False)

    @property
    def api(self) -> Api:
        return self._apis[self._turn % len(self._apis)]

    async def run(self) -> None:
        """Read for ever, with a stay of a random time and an absence of a random time in turn."""
        async with self._client:
            while True:
                await self._stay()
                # A reader that is away is what is tested here; nobody waits for anything.
                await asyncio.sleep(random.uniform(0, LONGEST_ABSENCE))
                self.happened["resumed"] += 1

    def stay_from_now_on(self) -> None:
        """Not leave by itself again: on a slow machine a short stay may not be enough to get on at all."""
        self.longest_stay = None

    async def _stay(self) -> None:
        try:
            async with asyncio.timeout(self.longest_stay and random.uniform(0, self.longest_stay)):
                await self.read()
        except TimeoutError:
            self.happened["dropped"] += 1
        except BREAKS as error:
            self._meet(error)
            self._turn += 1

    @abstractmethod
    async def read(self) -> None:
        """Read on from `position`, until the server ends it."""

    def take(self, event: Event) -> None:
        self.events.append((event["seq"], event["id"]))
        self.position = event["seq"]
        self._on_event(event)

    def _meet(self, error: Exception) -> None:
        self.happened["broken"] += 1
        if isinstance(error, ConnectionClosed):
            code = error.rcvd.code if error.rcvd else 1006
            self.happened[f"closed with {code}"] += 1
            if code not in CLOSINGS:
                self.faults.append(f"closed with {code}")

    def _is_answered(self, answer: httpx2.Response) -> bool:
        if answer.status_code not in {200, 503}:
            self.faults.append(f"answered with {answer.status_code}")
        return answer.status_code == 200


class SocketReader(Reader):
    kind = "socket"

    async def read(self) -> None:
        async with connect(self.api.socket_address, proxy=None, close_timeout=1) as socket:
            data = {"token": self._token, "since": self.position}
            await socket.send(json.dumps({"type": "auth", "data": data}))
            try:
                while True:
                    self._hear(json.loads(await socket.recv()))
            finally:
                self._leave(socket)

    def _hear(self, message: Event) -> None:
        if message["type"] == "resync":
            self.happened["resync"] += 1
        elif message["type"] not in {"user.online", "user.offline"}:
            self.take(message)

    @staticmethod
    def _leave(socket: ClientConnection) -> None:
        # Half of them go without a word, as a phone in a tunnel does.
        if random.random() < 0.5:
            socket.transport.abort()


class SteadySocketReader(SocketReader):
    """Never goes by itself."""

    longest_stay = None


class StreamReader(Reader):
    """Server-sent events."""

    kind = "stream"

    async def read(self) -> None:
        place_to_go_on = {"Last-Event-ID": str(self.position)}
        address = f"{self.api.address}/events/stream"
        async with self._client.stream("GET", address, headers=place_to_go_on) as answer:
            if self._is_answered(answer):
                place = None
                async for line in answer.aiter_lines():
                    name, _, value = line.partition(": ")
                    if name == "data":
                        self._hear(json.loads(value), place)
                    place = value if name == "id" else None

    def _hear(self, message: Event, place: str | None) -> None:
        if message["type"] == "resync":
            self.happened["resync"] += 1
        elif message["type"] not in {"user.online", "user.offline"}:
            if place != str(message["seq"]):
                self.faults.append(f"the id of {message['seq']} is {place}")
            self.take(message)


class PageReader(Reader):
    """Pages, some of which wait for the next event."""

    kind = "page"
    longest_wait = 0.0

    async def read(self) -> None:
        # Few pages a visit, for whoever asks again at once for ever has nothing but costs.
        for _ in range(random.randint(1, 3)):
            await self._read_page()

    async def _read_page(self) -> None:
        query = {"after": self.position, "limit": random.choice((10, 100, 1000)), "wait": self.longest_wait}
        answer = await self._client.get(f"{self.api.address}/events", params=query)
        if self._is_answered(answer):
            page = answer.json()
            for event in page["events"]:
                self.take(event)
            if not self.position <= page["next"] <= page["head"]:
                self.faults.append(f"at {self.position}, the next is {page['next']} of {page['head']}")
            self.position = page["next"]


class WaitingPageReader(PageReader):
    kind = "waiting page"
    longest_wait = 10.0


KINDS: Sequence[type[Reader]] = (SocketReader, StreamReader, WaitingPageReader, SocketReader, PageReader)
