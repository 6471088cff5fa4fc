"""The connections of one process to one database: how many there are, how they are made, and when none is trusted.

Every pool takes its connections from here, so `most` holds for all of them together: a pool that needs one more has the
longest idle connection of another pool closed. See ADR 33.
"""

import asyncio
import select
import socket
import time
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from functools import partial
from typing import Any

import asyncpg

from app.core.tcp import TCP_PROBES

# So that a connection to what is no longer the right server, or to its old settings, ends some day.
LONGEST_LIFE_SECONDS = 1800.0
# What is not needed is given back, for other processes have a use for it.
IDLE_SECONDS = 30.0
# A server that has no connection left gets time to close those that were just given back.
CROWDED_PAUSE_SECONDS = 0.05
# How long a process goes on with the connections that it has before it asks such a server for one more.
CROWDED_REST_SECONDS = 0.25
# What a connection answers whose session is no longer what it was: read-only since before a fail-over, or another one
# behind a pooler, without the prepared statements of this one.
LOST_SESSION = (asyncpg.ReadOnlySQLTransactionError, asyncpg.InvalidSQLStatementNameError)

NO_SETTINGS: Mapping[str, str] = {}


class NoTurn(TimeoutError):
    """All connections that there may be for such a use have been in use for a while."""


class Use(Enum):
    """What a connection is wanted for."""

    CHANGE = auto()
    # It changes and locks nothing, so it waits for nobody.
    READ = auto()
    # A read that may take long, by what somebody has asked for.
    SEARCH = auto()


class Connection(asyncpg.Connection):
    """Knows how old it is, and what its socket says of its peer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.made_at = self.taken_at = time.monotonic()

    def probe_peer(self) -> None:
        """Let the kernel notice within 20 seconds that the server is gone without a word."""
        connected = self._socket()
        if connected.family in {socket.AF_INET, socket.AF_INET6}:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in TCP_PROBES.items():
                connected.setsockopt(socket.IPPROTO_TCP, option, value)

    def has_unread(self) -> bool:
        """Whether the server has said something without being asked. It does when it hangs up, and hardly ever else.

        To look costs nothing, unlike a ping. The system knows of it also while the event loop stands still.
        """
        looking = select.poll()
        looking.register(self._socket(), select.POLLIN)
        return bool(looking.poll(0))

    def _socket(self) -> socket.socket:
        transport: asyncio.Transport = self._transport  # type: ignore[attr-defined]  # The types leave it out.
        found: socket.socket = transport.get_extra_info("socket")
        return found


async def open_connection(options: dict[str, Any]) -> Connection:
    connection: Connection = await asyncpg.connect(**options, connection_class=Connection)
    connection.probe_peer()
    return connection


class IdleConnections:
    """The idle connections of one pool, the one used last first."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, Connection]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def idle_since(self) -> float:
        """When the longest idle one was used last."""
        return self._waiting[0][0]

    def put(self, connection: Connection) -> None:
        self._waiting.append((time.monotonic(), connection))

    def take(self) -> Connection:
        return self._waiting.pop()[1]

    def close_longest_idle(self) -> None:
        self._waiting.pop(0)[1].terminate()

    def close_all(self) -> None:
        while self._waiting:
            self.close_longest_idle()


class ConnectionLimit:
    """At most `most` connections, of which one who finds all taken waits `wait_seconds` for one.

    A turn is the right to use a connection. `most` turns are given at a time, a quarter of them (at least one, if there
    are two) for reads alone: changes that wait for one another's locks, and searches, would else hold up all that only
    looks. Of the others, searches get as many. A process that hardly reads has use for all turns, and does without
    those (`keeps_turns_for_reads`).

    `stands_still` is for a process whose event loop doesn't run between uses, and so doesn't learn that the server hung
    up.
    """

    def __init__(
        self,
        options: dict[str, Any],
        *,
        most: int,
        wait_seconds: float,
        stands_still: bool = False,
        keeps_turns_for_reads: bool = True,
    ) -> None:
        self._options = options
        self._most = most
        self._wait_seconds = wait_seconds
        self._stands_still = stands_still
        self._turns = asyncio.Semaphore(most)
        quarter = max(most // 4, 1)
        slow = asyncio.Semaphore(most - quarter if keeps_turns_for_reads and most > 1 else most)
        # In the order in which they are waited for.
        self._turns_of: Mapping[Use, Sequence[asyncio.Semaphore]] = {
            Use.READ: (self._turns,),
            Use.CHANGE: (slow, self._turns),
            Use.SEARCH: (asyncio.Semaphore(quarter), slow, self._turns),
        }
        self._opened: list[Connection] = []
        self._opening = 0
        self._pools: list[IdleConnections] = []
        self._trusted_since = 0.0
        self._giving_back: asyncio.TimerHandle | None = None

    def add_pool(self, idle: IdleConnections) -> None:
        self._pools.append(idle)

    async def take_turn(self, use: Use = Use.CHANGE) -> None:
        """Wait for a turn; `end_turn` ends it.

        Raises:
            NoTurn: there was none for `wait_seconds`.
        """
        turns = self._turns_of[use]
        if not any(each.locked() for each in turns):
            # None waits, so none needs a time limit.
            await self._take_turns(turns)
            return
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._take_turns(turns)
        except TimeoutError:
            raise NoTurn from None

    async def _take_turns(self, turns: Sequence[asyncio.Semaphore]) -> None:
        taken: list[asyncio.Semaphore] = []
        try:
            for each in turns:
                await each.acquire()
                taken.append(each)
        except BaseException:
            for each in taken:
                each.release()
            raise

    def end_turn(self, use: Use = Use.CHANGE) -> None:
        for each in self._turns_of[use]:
            each.release()
        if self._giving_back is None:
            self._give_back_later()

    def rest_turn(self, use: Use = Use.CHANGE) -> None:
        """End a turn for which the server had no connection, but a moment later.

        Until then fewer have turns, so that they come to those connections that the process has.
        """
        asyncio.get_running_loop().call_later(CROWDED_REST_SECONDS, partial(self.end_turn, use))

    def patience(self) -> float:
        """Until when, by the monotonic clock, somebody asks on who was refused a connection just now."""
        return time.monotonic() + self._wait_seconds

    async def connect(self, settings: Mapping[str, str] = NO_SETTINGS) -> Connection:
        """Open a connection, for somebody who has a turn. `settings` are those that it has besides all others'.

        Raises:
            TooManyConnectionsError: the server has none left, and none of this process is idle.
        """
        # Others have fewer turns than there may be connections, so where those are all there, some are idle.
        while self._number() >= self._most and self._close_longest_idle():
            pass
        self._opening += 1
        try:
            connection = await self._open_one(self._options_with(settings))
        finally:
            self._opening -= 1
        self._opened.append(connection)
        return connection

    def _number(self) -> int:
        """How many there are, with those that are being opened."""
        self._opened = [connection for connection in self._opened if not connection.is_closed()]
        return len(self._opened) + self._opening

    def _options_with(self, settings: Mapping[str, str]) -> dict[str, Any]:
        if not settings:
            return self._options
        return self._options | {"server_settings": self._options["server_settings"] | settings}

    async def _open_one(self, options: dict[str, Any]) -> Connection:
        """Open a connection. If the server has none left, an idle one of this process makes room for it."""
        try:
            return await open_connection(options)
        except asyncpg.TooManyConnectionsError:
            if not self._close_longest_idle():
                raise
        await asyncio.sleep(CROWDED_PAUSE_SECONDS)
        return await open_connection(options)

    def is_usable(self, connection: Connection) -> bool:
        """Whether the connection may be used once more."""
        oldest = max(self._trusted_since, time.monotonic() - LONGEST_LIFE_SECONDS)
        if connection.made_at < oldest or connection.is_closed():
            return False
        return not (self._stands_still and connection.has_unread())

    def distrust(self) -> None:
        """Use none of the present connections again, for one of them has failed and they lead to the same server."""
        self._trusted_since = time.monotonic()
        self.close_idle()

    def close_idle(self) -> None:
        for idle in self._pools:
            idle.close_all()

    def _close_longest_idle(self) -> bool:
        """Close one connection; False where none is idle."""
        longest = min((idle for idle in self._pools if idle), key=lambda idle: idle.idle_since, default=None)
        if longest is None:
            return False
        longest.close_longest_idle()
        return True

    def _give_back_later(self) -> None:
        self._giving_back = asyncio.get_running_loop().call_later(IDLE_SECONDS / 2, self._give_back_idle)

    def _give_back_idle(self) -> None:
        """Close what nobody has used for a while. It goes on for as long as there is something idle."""
        self._giving_back = None
        oldest = time.monotonic() - IDLE_SECONDS
        for idle in self._pools:
            while idle and idle.idle_since < oldest:
                idle.close_longest_idle()
        if any(self._pools):
            self._give_back_later()
