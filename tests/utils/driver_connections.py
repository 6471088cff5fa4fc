"""The driver's connections of a test, and what is sent over them."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.limit import Use
from app.db.pool import Connections, Driver


class ConnectionOfTest:
    """Has the application use the connection of the test, within its transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.note: Callable[[str, Sequence[object]], None] = lambda *_: None

    async def fetch_row(self, sql: str, arguments: Sequence[object]) -> asyncpg.Record | None:
        self.note(sql, arguments)
        row: asyncpg.Record | None = await (await self._driver()).fetchrow(sql, *arguments)
        return row

    @asynccontextmanager
    async def transaction(self, _use: Use = Use.CHANGE) -> AsyncIterator[asyncpg.Connection]:
        driver = await self._driver()
        async with driver.transaction():
            yield cast("asyncpg.Connection", NotingDriver(driver, self.note))

    # Within the test's transaction, which what fails must not end.
    connection = transaction

    async def _driver(self) -> asyncpg.Connection:
        driver = (await self._connection.get_raw_connection()).driver_connection
        assert isinstance(driver, asyncpg.Connection)
        return driver


class NotingConnections:
    """Tells what transactions send on the connections of a committed test."""

    def __init__(self, connections: Connections, note: Callable[[str, Sequence[object]], None]) -> None:
        self._connections = connections
        self._note = note
        self.fetch_row = connections.fetch_row

    @asynccontextmanager
    async def connection(self, use: Use = Use.CHANGE) -> AsyncIterator[Driver]:
        async with self._connections.connection(use) as driver:
            yield cast("Driver", NotingDriver(driver, self._note))

    @asynccontextmanager
    async def transaction(self, use: Use = Use.CHANGE) -> AsyncIterator[Driver]:
        async with self._connections.transaction(use) as driver:
            yield cast("Driver", NotingDriver(driver, self._note))


class NotingDriver:
    """Tells what a transaction sends."""

    def __init__(self, driver: Driver, note: Callable[[str, Sequence[object]], None]) -> None:
        self._driver = driver
        self._note = note
        self.transaction = driver.transaction

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        self._note(sql, arguments)
        rows: list[asyncpg.Record] = await self._driver.fetch(sql, *arguments)
        return rows

    async def fetchmany(self, sql: str, arguments: Sequence[Sequence[object]]) -> list[asyncpg.Record]:
        self._note(sql, arguments)
        rows: list[asyncpg.Record] = await self._driver.fetchmany(sql, arguments)
        return rows
