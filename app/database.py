"""The way to PostgreSQL: engine, sessions, transactions. No other module says "commit"."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import event, exc, func, select, text
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    AsyncSessionTransaction,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from app.core.dsn import asyncpg_dsn
from app.core.errors import from_database
from app.read_pool import Reader, ReadPool

# Set on a session's `info` by whoever wrote something that the relay should carry on after the commit.
WAKES_RELAY = "wakes_relay"
# The same by whoever ended sessions, tokens or accounts: their ids, which this process shall know of at once.
ENDED_SIGN_INS = "ended_sign_ins"

SERVER_SETTINGS = {
    "timezone": "UTC",
    "statement_timeout": "15s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "30s",
    # So that the server learns within half a minute that a machine is gone, and frees the locks it held.
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
# For a server that is frozen or out of reach and can't keep its own time-outs. Longer than those.
ANSWER_SECONDS = 20
# How long one waits for a connection that others have.
POOL_SECONDS = 3


def create_engine(
    url: str,
    *,
    application: str,
    pool_size: int | None = None,
    pre_ping: bool = False,
    answer_seconds: float | None = ANSWER_SECONDS,
) -> AsyncEngine:
    """An engine that connects on first use; without `pool_size`, each use is a connection of its own.

    `pre_ping` asks each connection before use, for a process whose event loop stands still meanwhile and does not
    learn that the server hung up. A statement without an answer for `answer_seconds` fails.
    """
    options = driver_options(url, application=application, answer_seconds=answer_seconds)

    async def connect(*_: Any, **__: Any) -> asyncpg.Connection:
        # asyncpg reads the provider's options itself, such as sslmode, which SQLAlchemy's URL would lose.
        return await asyncpg.connect(**options)

    pool: dict[str, Any] = (
        {"poolclass": NullPool}
        if pool_size is None
        else {
            "pool_size": pool_size,
            "max_overflow": 0,
            "pool_timeout": POOL_SECONDS,
            "pool_recycle": 1800,
            "pool_pre_ping": pre_ping,
        }
    )
    # An error that told the parameters of its statement would tell addresses and hashes to the log.
    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, hide_parameters=True, **pool)
    event.listen(engine.sync_engine, "handle_error", _give_up_silent_connection)
    event.listen(engine.sync_engine, "checkout", _refuse_closed_connection)
    return engine


def driver_options(url: str, *, application: str, answer_seconds: float | None = ANSWER_SECONDS) -> dict[str, Any]:
    """How each connection is made, whoever makes it."""
    settings = {**SERVER_SETTINGS, "application_name": f"hive {application}"}
    return {"dsn": asyncpg_dsn(url), "server_settings": settings, "timeout": 3, "command_timeout": answer_seconds}


def _refuse_closed_connection(connection: DBAPIConnection, _entry: ConnectionPoolEntry, _proxy: object) -> None:
    # asyncpg knows when the server hung up. Asking it costs nothing, unlike a ping before each use,
    # and keeps requests from meeting the connections that a restart of the server has left in the pool.
    if connection.driver_connection.is_closed():
        raise exc.DisconnectionError


def _give_up_silent_connection(context: ExceptionContext) -> None:
    # Without this it would go back to the pool, and wait as long again for its rollback.
    if isinstance(context.original_exception, TimeoutError):
        context.is_disconnect = True


class Database:
    """A source of transactions, all to one database."""

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        *,
        engine: AsyncEngine | None = None,
        reader: Reader | None = None,
        wake_relay: Callable[[], None] = lambda: None,
    ) -> None:
        self._sessions = sessions
        self._engine = engine
        self._reader = reader
        self.wake_relay = wake_relay
        self.forget_sign_ins: Callable[[Iterable[UUID]], None] = lambda _: None

    @classmethod
    def connect(cls, url: str, *, application: str, pool_size: int | None = None, pre_ping: bool = False) -> "Database":
        engine = create_engine(url, application=application, pool_size=pool_size, pre_ping=pre_ping)
        options = driver_options(url, application=f"{application} reads")
        reader = ReadPool(options, size=pool_size or 1, wait_seconds=POOL_SECONDS)
        return cls(async_sessionmaker(engine, expire_on_commit=False), engine=engine, reader=reader)

    @asynccontextmanager
    async def unit_of_work(self) -> AsyncIterator[AsyncSession]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises:
            HiveError: the database refused something or is away, said as the answer to give.
        """
        with _errors_translated():
            async with self._sessions() as session:
                yield session
                await session.commit()
        self.forget_sign_ins(session.info.pop(ENDED_SIGN_INS, ()))
        if session.info.pop(WAKES_RELAY, False):
            self.wake_relay()

    async def read(self, sql: str, arguments: Sequence[object]) -> asyncpg.Record | None:
        """The first row of what a statement answers that changes nothing. Without a session, and without a transaction.

        Raises:
            HiveError: as `unit_of_work` does.
        """
        assert self._reader is not None
        with _errors_translated():
            return await self._reader.fetch_row(sql, arguments)

    @asynccontextmanager
    async def exclusively(self, lock: int, *, idle_seconds: int = 10) -> AsyncIterator["Database | None"]:
        """Hold an advisory lock; None when somebody else holds it.

        Whoever sends nothing for `idle_seconds` loses it: a process that is frozen keeps its connection, and would keep
        the lock for ever.

        The database that is given works on the one connection that holds the lock: who loses the lock can
        write nothing more.

        Raises:
            HiveError: as `unit_of_work` does.
        """
        assert self._engine is not None
        with _errors_translated():
            async with self._engine.connect() as connection:
                is_ours = await connection.scalar(select(func.pg_try_advisory_lock(lock)))
                if is_ours:
                    await connection.execute(text(f"SET idle_session_timeout = '{idle_seconds}s'"))
                await connection.commit()
                if not is_ours:
                    yield None
                    return
                try:
                    yield Database(async_sessionmaker(connection, expire_on_commit=False))
                finally:
                    # The lock goes with the connection, which must not return to the pool with it.
                    await connection.invalidate()

    async def close(self) -> None:
        if isinstance(self._reader, ReadPool):
            await self._reader.close()
        if self._engine is not None:
            await self._engine.dispose()


class Savepoint:
    """A part of a transaction that can be undone without the rest."""

    def __init__(self, transaction: AsyncSessionTransaction) -> None:
        self._transaction = transaction

    @classmethod
    async def begin(cls, session: AsyncSession) -> "Savepoint":
        return cls(await session.begin_nested())

    async def undo(self) -> None:
        await self._transaction.rollback()

    async def release(self) -> None:
        """What was done since is for the transaction to keep; harmless when it was undone."""
        if self._transaction.is_active:
            await self._transaction.commit()


@contextmanager
def _errors_translated() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if translated := from_database(error):
            raise translated from error
        raise
