"""Connections for reads: a statement at a time, with no transaction around it. See ADR 27."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import asyncpg

from app.core.errors import UNAVAILABLE, ServiceUnavailable


class Reader(Protocol):
    async def fetch_row(self, sql: str, arguments: Sequence[object]) -> asyncpg.Record | None:
        """The first row of what the statement answers."""


class ReadPool:
    """It connects on first use, to `size` connections at most; `wait_seconds` is how long one waits for one of them."""

    def __init__(self, options: dict[str, Any], *, size: int, wait_seconds: float) -> None:
        self._options = options
        self._size = size
        self._wait_seconds = wait_seconds
        self._made: asyncpg.Pool | None = None

    async def fetch_row(self, sql: str, arguments: Sequence[object]) -> asyncpg.Record | None:
        pool = self._made or await self._make()
        async with asyncio.timeout(self._wait_seconds):
            connection = await pool.acquire()
        try:
            return await connection.fetchrow(sql, *arguments)
        except TimeoutError:
            # Whoever came next would wait for it as long again.
            connection.terminate()
            raise
        except asyncpg.InterfaceError as error:
            if connection.is_closed():
                raise ServiceUnavailable(UNAVAILABLE, code="database_unavailable") from error
            raise
        finally:
            await pool.release(connection)

    async def _make(self) -> asyncpg.Pool:
        # Nobody else comes in between, for without a connection to make there is nothing to wait for.
        self._made = await asyncpg.create_pool(
            min_size=0, max_size=self._size, connection_class=_Connection, **self._options
        )
        return self._made

    async def close(self) -> None:
        if self._made is not None:
            self._made.terminate()


class _Connection(asyncpg.Connection):
    """Nothing that reads do stays with it, so there is nothing to take back before its next use."""

    async def reset(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109  # asyncpg's own signature.
        pass
