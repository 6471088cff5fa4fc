"""The way to PostgreSQL: engine, sessions, transactions. No service commits."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import structlog
from sqlalchemy import event, func, select, text
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import NullPool

from app.connection_demand import name_of_connections
from app.connection_limit import LOST_SESSION, Connection, ConnectionLimit, NoTurn, Use, open_connection
from app.core.dsn import asyncpg_dsn
from app.core.errors import HiveError, ServiceUnavailable, from_database, is_fault_of_database
from app.core.security_log import write_noted
from app.core.seldom import Seldom
from app.driver_pool import Connections, Driver, DriverPool, HeldConnection
from app.quick_session import QuickSession
from app.session import ENDED_SIGN_INS, WAKES_RELAY, Nested, Session
from app.session_pool import SessionPool

SERVER_SETTINGS = {
    "timezone": "UTC",
    "statement_timeout": "15s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "30s",
    # So that the server learns within half a minute that a machine is gone, and frees the locks it held.
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
# For a server that is frozen or out of reach and can't keep its own time-outs. Longer than those.
ANSWER_SECONDS = 20
# How long one waits for a connection that others have.
POOL_SECONDS = 3
# How long a statement of a search may take, unless something else is set.
SEARCH_SECONDS = 2.0
SEARCH_SETTINGS = {
    # Room for the places of some hundred thousand tasks. It would else remember the pages alone, and look through each.
    "work_mem": "16MB",
    # A search is told in which tasks to look, so that it never has to go through all of them.
    "enable_seqscan": "off",
}

log = structlog.stdlib.get_logger(__name__)
_seldom = Seldom()


def create_engine(
    url: str,
    *,
    application: str,
    pool_size: int | None = None,
    answer_seconds: float | None = ANSWER_SECONDS,
    wait_seconds: float = POOL_SECONDS,
) -> AsyncEngine:
    """An engine that connects on first use; without `pool_size`, each use is a connection of its own.

    A statement without an answer for `answer_seconds` fails, and a use for which no connection is free for
    `wait_seconds`.
    """
    options = driver_options(url, application=application, answer_seconds=answer_seconds)
    if pool_size is None:
        return _engine(partial(open_connection, options), poolclass=NullPool)
    return _pooled_engine(ConnectionLimit(options, most=pool_size, wait_seconds=wait_seconds))


def _pooled_engine(limit: ConnectionLimit) -> AsyncEngine:
    engine = _engine(limit.connect, poolclass=SessionPool, limit=limit)

    def judge(context: ExceptionContext) -> None:
        # A silent connection would go back to the pool, and wait as long again for its rollback.
        context.is_disconnect = context.is_disconnect or isinstance(
            _driver_error(context), (TimeoutError, *LOST_SESSION)
        )
        if context.is_disconnect:
            limit.distrust()

    event.listen(engine.sync_engine, "handle_error", judge)
    return engine


def _engine(connect: Callable[[], Awaitable[Connection]], **pool: Any) -> AsyncEngine:
    async def creator(*_: Any, **__: Any) -> Connection:
        # asyncpg reads the provider's options itself, such as sslmode, which SQLAlchemy's URL would lose.
        return await connect()

    # An error that told the parameters of its statement would tell addresses and hashes to the log.
    return create_async_engine("postgresql+asyncpg://", async_creator=creator, hide_parameters=True, **pool)


def _driver_error(context: ExceptionContext) -> BaseException | None:
    """What the driver raised, which SQLAlchemy's adapter translates where it knows it."""
    error = context.original_exception
    return error.__cause__ if isinstance(error, context.dialect.loaded_dbapi.Error) else error


def driver_options(
    url: str, *, application: str, answer_seconds: float | None = ANSWER_SECONDS, most: int | None = None
) -> dict[str, Any]:
    """How each connection is made, whoever makes it. `most` is how many one process may have."""
    name = f"hive {application}" if most is None else name_of_connections(application, most)
    settings = {**SERVER_SETTINGS, "application_name": name}
    return {"dsn": asyncpg_dsn(url), "server_settings": settings, "timeout": 3, "command_timeout": answer_seconds}


class SearchTooSlow(ServiceUnavailable):
    def __init__(self) -> None:
        super().__init__(
            "The search took too long; look for longer or rarer words, or filter by more.", code="search_too_slow"
        )


class TooManySearching(ServiceUnavailable):
    def __init__(self) -> None:
        super().__init__("Too many are searching at the moment; try again shortly.", code="too_busy")


class Database:
    """A source of transactions, all to one database."""

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        *,
        engine: AsyncEngine | None = None,
        reads: Connections | None = None,
        writes: Connections | None = None,
        searches: Connections | None = None,
        search_seconds: float = SEARCH_SECONDS,
        wake_relay: Callable[[], None] = lambda: None,
    ) -> None:
        self._sessions = sessions
        self._engine = engine
        self._reads = reads
        self._writes = writes
        self._searches = searches or reads
        self._search_timeout = _milliseconds(search_seconds)
        self.wake_relay = wake_relay
        self.forget_sign_ins: Callable[[Iterable[UUID]], None] = lambda _: None

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        application: str,
        pool_size: int = 2,
        stands_still: bool = False,
        search_seconds: float = SEARCH_SECONDS,
    ) -> "Database":
        """`pool_size` is how many connections there are at most, for sessions, reads, changes and searches together.

        `stands_still` is for a process whose event loop runs only now and then, so that each connection has to be
        looked at before it's used.
        """
        options = driver_options(url, application=application, most=pool_size)
        limit = ConnectionLimit(options, most=pool_size, wait_seconds=POOL_SECONDS, stands_still=stands_still)
        engine, driver_pool = _pooled_engine(limit), DriverPool(limit)
        sessions = async_sessionmaker(engine, expire_on_commit=False)
        search_settings = SEARCH_SETTINGS | {"statement_timeout": _milliseconds(search_seconds)}
        searches = DriverPool(limit, reads=Use.SEARCH, settings=search_settings)
        return cls(
            sessions,
            engine=engine,
            reads=driver_pool,
            writes=driver_pool,
            searches=searches,
            search_seconds=search_seconds,
        )

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
        self._tell(session.info)

    @asynccontextmanager
    async def quick_unit_of_work(self) -> AsyncIterator[QuickSession]:
        """The same for changes of tasks and for jobs, which need little of a session and come often.

        Raises:
            HiveError: as `unit_of_work` does.
        """
        assert self._writes is not None
        async with self._quick_session_on(self._writes.transaction()) as session:
            yield session

    @asynccontextmanager
    async def quick_statement(self) -> AsyncIterator[QuickSession]:
        """The same for what is a single statement, and so a transaction without being told to be one.

        Raises:
            HiveError: as `unit_of_work` does.
            RuntimeError: there is a second one, which isn't sent.
        """
        assert self._writes is not None
        async with self._quick_session_on(self._writes.connection(), is_one_statement=True) as session:
            yield session

    @asynccontextmanager
    async def _quick_session_on(
        self, connection: AbstractAsyncContextManager[Driver], *, is_one_statement: bool = False
    ) -> AsyncIterator[QuickSession]:
        with _errors_translated():
            async with AsyncExitStack() as stack:
                # Only when there is something to send is there a connection to wait for.
                connect = partial(stack.enter_async_context, connection)
                session = QuickSession(connect, is_one_statement=is_one_statement)
                yield session
                await session.flush()
        self._tell(session.info)

    def _tell(self, info: dict[Any, Any]) -> None:
        """What a transaction has left to be done once it's committed."""
        self.forget_sign_ins(info.pop(ENDED_SIGN_INS, ()))
        write_noted(info)
        if info.pop(WAKES_RELAY, False):
            self.wake_relay()

    async def read(self, sql: str, arguments: Sequence[object]) -> asyncpg.Record | None:
        """The first row of what a statement answers that changes nothing. Without a session, and without a transaction.

        Raises:
            HiveError: as `unit_of_work` does.
        """
        assert self._reads is not None
        with _errors_translated():
            return await self._reads.fetch_row(sql, arguments)

    async def search(self, sql: str, arguments: Sequence[object]) -> asyncpg.Record | None:
        """As `read`, for what may take long by what somebody asks for: on few connections, and not for long.

        Raises:
            SearchTooSlow: it took as long as a search may.
            TooManySearching: the connections for searches were all in use for a while.
            HiveError: as `unit_of_work` does.
        """
        assert self._searches is not None
        with _errors_translated():
            try:
                return await self._searches.fetch_row(sql, arguments)
            except asyncpg.QueryCanceledError as error:
                raise SearchTooSlow from error
            except NoTurn as error:
                raise TooManySearching from error

    async def hurry(self, session: AsyncSession) -> None:
        """Let no further statement of the transaction take longer than one of a search may."""
        await session.execute(
            text("SELECT set_config('statement_timeout', :timeout, true)"), {"timeout": self._search_timeout}
        )

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
                    driver = (await connection.get_raw_connection()).driver_connection
                    assert isinstance(driver, asyncpg.Connection)
                    held = HeldConnection(driver)
                    yield Database(async_sessionmaker(connection, expire_on_commit=False), reads=held, writes=held)
                finally:
                    # The lock goes with the connection, which must not return to the pool with it.
                    await connection.invalidate()

    async def close(self) -> None:
        for pool in (self._reads, self._writes, self._searches):
            if isinstance(pool, DriverPool):
                await pool.close()
        if self._engine is not None:
            await self._engine.dispose()


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms"


class Savepoint:
    """A part of a transaction that can be undone without the rest."""

    def __init__(self, transaction: Nested) -> None:
        self._transaction = transaction

    @classmethod
    async def begin(cls, session: Session) -> "Savepoint":
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
            _log_seldom(translated)
            raise translated from error
        raise


def _log_seldom(error: HiveError) -> None:
    if is_fault_of_database(error) and (left_out := _seldom.times(error.reason)) is not None:
        log.warning("the database can't be used", reason=error.reason, left_out=left_out)
