"""Connections of the driver's own, for what goes past SQLAlchemy's sessions. See ADRs 27 and 32."""

import asyncio
import select
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from typing import Any, Protocol, cast

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from asyncpg.transaction import Transaction

from app.core.errors import UNAVAILABLE, ServiceUnavailable

# To close a connection after so many queries would be to do it, and maybe to fail, when a request is just done.
NO_END = 2**62
Driver = asyncpg.Connection | PoolConnectionProxy
# What a statement ends with whose answer doesn't come, or isn't waited for.
SILENCE = (TimeoutError, asyncio.CancelledError)
# What the driver says of a connection that is no more, besides of one that is used in a wrong way.
LOST = (asyncpg.InterfaceError, asyncpg.InternalClientError)
FAULTS = (*SILENCE, *LOST)


class Connections(Protocol):
    async def fetch_row(self, sql: str, arguments: Sequence[object]) -> asyncpg.Record | None:
        """The first row of what the statement answers, which is a transaction by itself."""

    def connection(self) -> AbstractAsyncContextManager[Driver]:
        """One on which each statement is a transaction by itself."""

    def transaction(self) -> AbstractAsyncContextManager[Driver]:
        """A connection with a transaction on it: committed when the block ends, rolled back when it raises."""


class DriverPool:
    """It connects on first use, to `size` connections at most; `wait_seconds` is how long one waits for one of them.

    `stands_still` is for a process whose event loop doesn't run between uses, and so doesn't learn that the server hung
    up.
    """

    def __init__(self, options: dict[str, Any], *, size: int, wait_seconds: float, stands_still: bool = False) -> None:
        self._options = options
        self._size = size
        self._wait_seconds = wait_seconds
        self._stands_still = stands_still
        self._made: asyncpg.Pool | None = None

    async def fetch_row(self, sql: str, arguments: Sequence[object]) -> asyncpg.Record | None:
        pool, connection = await self._take()
        # Without a block of its own for faults: it's what reads do, and nothing else is.
        try:
            return await connection.fetchrow(sql, *arguments)
        except FAULTS as error:
            raise _given_up(connection, error) from error.__cause__
        finally:
            await pool.release(connection)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Driver]:
        pool, connection = await self._take()
        try:
            with _given_up_when_silent(connection):
                yield connection
        finally:
            await pool.release(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Driver]:
        async with self.connection() as connection, _transaction_on(connection):
            yield connection

    async def _take(self) -> tuple[asyncpg.Pool, PoolConnectionProxy]:
        pool = self._made or await self._make()
        async with asyncio.timeout(self._wait_seconds):
            connection = await pool.acquire()
            while self._stands_still and cast("_Connection", connection).has_unread():
                # One that is closed is made anew when it's acquired the next time.
                connection.terminate()
                await pool.release(connection)
                connection = await pool.acquire()
            return pool, connection

    async def _make(self) -> asyncpg.Pool:
        # Nobody else comes in between, for without a connection to make there is nothing to wait for.
        self._made = await asyncpg.create_pool(
            min_size=0, max_size=self._size, max_queries=NO_END, connection_class=_Connection, **self._options
        )
        return self._made

    async def close(self) -> None:
        """Like an engine, it connects again should it be used again."""
        made, self._made = self._made, None
        if made is not None:
            made.terminate()


class HeldConnection:
    """The same on one connection that is somebody's already, for one thing after the other."""

    def __init__(self, driver: asyncpg.Connection) -> None:
        self._driver = driver

    async def fetch_row(self, sql: str, arguments: Sequence[object]) -> asyncpg.Record | None:
        async with self.connection() as connection:
            return await connection.fetchrow(sql, *arguments)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Driver]:
        with _given_up_when_silent(self._driver):
            yield self._driver

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Driver]:
        async with self.connection() as connection, _transaction_on(connection):
            yield connection


class _Connection(asyncpg.Connection):
    """Nothing stays with it but a transaction, so there is nothing else to take back before its next use."""

    async def reset(self, *, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109  # asyncpg's own signature.
        if self.is_in_transaction():
            self.terminate()

    def has_unread(self) -> bool:
        """Whether the server has said something without being asked. It does when it hangs up, and hardly ever else.

        To look costs nothing, unlike a ping. The system knows of it also while the event loop stands still.
        """
        looking = select.poll()
        transport: asyncio.Transport = self._transport  # type: ignore[attr-defined]  # The types leave it out.
        looking.register(transport.get_extra_info("socket"), select.POLLIN)
        return bool(looking.poll(0))


@asynccontextmanager
async def _transaction_on(connection: Driver) -> AsyncIterator[None]:
    transaction = connection.transaction()
    try:
        await transaction.start()
    except BaseException:
        # The driver would take it for begun.
        _end(connection)
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
        _end(connection)


@contextmanager
def _given_up_when_silent(connection: Driver) -> Iterator[None]:
    try:
        yield
    except FAULTS as error:
        raise _given_up(connection, error) from error.__cause__


def _given_up(connection: Driver, error: BaseException) -> BaseException:
    """What the fault is to be told as. A connection that is silent or lost is ended."""
    if isinstance(error, LOST):
        if not _is_lost(connection, error):
            return error
        _end(connection)
        return ServiceUnavailable(UNAVAILABLE, code="database_unavailable")
    # Whoever came next would wait for it as long again.
    _end(connection)
    return error


def _is_lost(connection: Driver, error: Exception) -> bool:
    try:
        return isinstance(error, asyncpg.InternalClientError) or connection.is_closed()
    except asyncpg.InterfaceError:
        # The pool has taken it back already.
        return True


def _end(connection: Driver) -> None:
    with suppress(asyncpg.InterfaceError):
        connection.terminate()
