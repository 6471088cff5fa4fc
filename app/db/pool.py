"""Lending the connections of a process, and what becomes of one that fails. See ADR 33."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import asyncpg
from asyncpg.transaction import Transaction

from app.core.errors import UNAVAILABLE, ServiceUnavailable
from app.db.limit import LOST_SESSION, NO_SETTINGS, Connection, ConnectionLimit, IdleConnections, Use

Driver = asyncpg.Connection
# What a statement ends with whose answer doesn't come, or isn't waited for.
SILENCE = (TimeoutError, asyncio.CancelledError)
# What the driver says of a connection that is no more, besides of one that is used in a wrong way.
LOST = (asyncpg.InterfaceError, asyncpg.InternalClientError)
# What it passes on of the server, before that hangs up.
ENDED = (asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError, OSError)
# A statement that was awaited for longer, and then no more, may have been on its way to nowhere.
SUSPICIOUS_SECONDS = 1.0
FAULTS = (*SILENCE, *LOST, *ENDED, *LOST_SESSION)


class Connections(Protocol):
    async def fetch_row(self, sql: str, arguments: Sequence[object]) -> asyncpg.Record | None:
        """The first row of what the statement answers, which is a transaction by itself."""

    def connection(self, use: Use = Use.CHANGE) -> AbstractAsyncContextManager[Driver]:
        """One on which each statement is a transaction by itself."""

    def transaction(self, use: Use = Use.CHANGE) -> AbstractAsyncContextManager[Driver]:
        """A connection with a transaction on it: committed when the block ends, rolled back when it raises."""


class DriverPool:
    """Connects on first use, and as often as the limit lets it.

    `reads` is what its rows are fetched for, and `settings` are those of its connections besides all others'.
    """

    def __init__(
        self, limit: ConnectionLimit, *, reads: Use = Use.READ, settings: Mapping[str, str] = NO_SETTINGS
    ) -> None:
        self._limit = limit
        self._reads = reads
        self._settings = settings
        self._idle = IdleConnections()
        limit.add_pool(self._idle)

    async def fetch_row(self, sql: str, arguments: Sequence[object]) -> asyncpg.Record | None:
        connection = await self._take(self._reads)
        # Without a block of its own for faults: it's what reads do, and nothing else is.
        try:
            return await connection.fetchrow(sql, *arguments)
        except FAULTS as error:
            raise self._given_up(connection, error) from error.__cause__
        finally:
            self._give_back(connection, self._reads)

    @asynccontextmanager
    async def connection(self, use: Use = Use.CHANGE) -> AsyncIterator[Driver]:
        connection = await self._take(use)
        try:
            yield connection
        except FAULTS as error:
            raise self._given_up(connection, error) from error.__cause__
        finally:
            self._give_back(connection, use)

    @asynccontextmanager
    async def transaction(self, use: Use = Use.CHANGE) -> AsyncIterator[Driver]:
        async with self.connection(use) as connection, _transaction_on(connection):
            yield connection

    async def _take(self, use: Use) -> Connection:
        until = None
        while True:
            await self._limit.take_turn(use)
            try:
                return self._take_idle() or await self._limit.connect(self._settings)
            except asyncpg.TooManyConnectionsError:
                self._limit.rest_turn(use)
                until = until or self._limit.patience()
                if time.monotonic() > until:
                    raise
            except BaseException:
                self._limit.end_turn(use)
                raise

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.take()
            if self._limit.is_usable(connection):
                connection.taken_at = time.monotonic()
                return connection
            connection.terminate()
        return None

    def _give_back(self, connection: Connection, use: Use) -> None:
        # Nothing stays with a connection but a transaction, so there is nothing else to take back before its next use.
        if self._limit.is_usable(connection) and not connection.is_in_transaction():
            self._idle.put(connection)
        else:
            connection.terminate()
        self._limit.end_turn(use)

    def _given_up(self, connection: Connection, error: BaseException) -> BaseException:
        """What the fault is to be told as. A connection that is silent or lost is ended."""
        told = given_up(connection, error)
        # One that is cancelled soon says nothing of the server.
        was_awaited = time.monotonic() - connection.taken_at > SUSPICIOUS_SECONDS
        if connection.is_closed() and (was_awaited or not isinstance(error, asyncio.CancelledError)):
            self._limit.distrust()
        return told

    async def close(self) -> None:
        """Like an engine, it connects again should it be used again."""
        self._idle.close_all()


class HeldConnection:
    """A connection that somebody has already, for one thing after the other, whatever its use."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def fetch_row(self, sql: str, arguments: Sequence[object]) -> asyncpg.Record | None:
        async with self.connection() as connection:
            return await connection.fetchrow(sql, *arguments)

    @asynccontextmanager
    async def connection(self, _use: Use = Use.CHANGE) -> AsyncIterator[Driver]:
        try:
            yield self._driver
        except FAULTS as error:
            raise given_up(self._driver, error) from error.__cause__

    @asynccontextmanager
    async def transaction(self, _use: Use = Use.CHANGE) -> AsyncIterator[Driver]:
        async with self.connection() as connection, _transaction_on(connection):
            yield connection


@asynccontextmanager
async def _transaction_on(connection: Driver) -> AsyncIterator[None]:
    transaction = connection.transaction()
    try:
        await transaction.start()
    except BaseException:
        # The driver would take it for begun.
        connection.terminate()
        raise
    try:
        yield
    except SILENCE:
        # To ask for the end of the transaction would be to wait once more. The connection ends, and it with it.
        raise
    except BaseException:
        await _roll_back(transaction, connection)
        raise
    else:
        await transaction.commit()


async def _roll_back(transaction: Transaction, connection: Driver) -> None:
    """What it's rolled back for is what is to be told, and not that the connection is lost as well."""
    try:
        await transaction.rollback()
    except (OSError, asyncpg.PostgresError, *LOST):
        connection.terminate()


def given_up(connection: Driver, error: BaseException) -> BaseException:
    """What a fault is to be told as. The connection is ended, unless it was only used in a wrong way."""
    if not isinstance(error, LOST):
        # Who came next would wait for it as long again, or be told the same.
        connection.terminate()
        return error
    if not isinstance(error, asyncpg.InternalClientError) and not connection.is_closed():
        return error
    connection.terminate()
    return ServiceUnavailable(UNAVAILABLE, code="database_unavailable")
