"""The way to PostgreSQL: connections, transactions, reads. No service commits."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import structlog
from sqlalchemy import Text, bindparam, func, literal_column, select

from app.core.errors import UNAVAILABLE, HiveError, ServiceUnavailable, from_database, is_fault_of_database
from app.core.security_log import write_noted
from app.core.seldom import Seldom
from app.db.demand import name_of_connections
from app.db.dsn import asyncpg_dsn
from app.db.limit import ConnectionLimit, NoTurn, Use
from app.db.pool import Connections, Driver, DriverPool, HeldConnection
from app.db.statements import keep
from app.db.transaction import ENDED_SIGN_INS, WAKES_RELAY, Transaction

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


def driver_options(
    url: str, *, application: str, answer_seconds: float | None = ANSWER_SECONDS, most: int | None = None
) -> dict[str, Any]:
    """Return how each connection is made. `most` is how many one process may have."""
    name = f"hive {application}" if most is None else name_of_connections(application, most)
    settings = {**SERVER_SETTINGS, "application_name": name}
    return {"dsn": asyncpg_dsn(url), "server_settings": settings, "timeout": 3, "command_timeout": answer_seconds}


class ConnectionsInUse(ServiceUnavailable):
    def __init__(self) -> None:
        super().__init__(UNAVAILABLE, code="database_unavailable")
        self.reason = "All of HIVE's connections to PostgreSQL are in use; DATABASE_POOL_SIZE allows more."


class SearchTooSlow(ServiceUnavailable):
    def __init__(self) -> None:
        super().__init__(
            "The search took too long; look for longer or rarer words, or filter by more.", code="search_too_slow"
        )


class TooManySearching(ServiceUnavailable):
    def __init__(self) -> None:
        super().__init__("Too many are searching at the moment; try again shortly.", code="too_busy")


class Database:
    """A source of transactions and reads, all on one database."""

    def __init__(
        self,
        connections: Connections,
        *,
        searches: Connections | None = None,
        search_seconds: float = SEARCH_SECONDS,
    ) -> None:
        self._connections = connections
        self._searches = searches or connections
        self._search_timeout = _milliseconds(search_seconds)
        self.wake_relay: Callable[[], None] = lambda: None
        self.forget_sign_ins: Callable[[Iterable[UUID]], None] = lambda _: None

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        application: str,
        pool_size: int = 2,
        stands_still: bool = False,
        keeps_turns_for_reads: bool = True,
        search_seconds: float = SEARCH_SECONDS,
    ) -> "Database":
        """`pool_size` is how many connections there are at most, for reads, changes and searches together.

        `stands_still` is for a process whose event loop runs only now and then, so that each connection has to be
        looked at before it's used. `keeps_turns_for_reads` is for one whose reads mustn't wait for its changes.
        """
        options = driver_options(url, application=application, most=pool_size)
        limit = ConnectionLimit(
            options,
            most=pool_size,
            wait_seconds=POOL_SECONDS,
            stands_still=stands_still,
            keeps_turns_for_reads=keeps_turns_for_reads,
        )
        search_settings = SEARCH_SETTINGS | {"statement_timeout": _milliseconds(search_seconds)}
        searches = DriverPool(limit, reads=Use.SEARCH, settings=search_settings)
        return cls(DriverPool(limit), searches=searches, search_seconds=search_seconds)

    @asynccontextmanager
    async def unit_of_work(
        self, *, is_one_statement: bool = False, is_reading: bool = False
    ) -> AsyncIterator[Transaction]:
        """One transaction: committed when the block ends, rolled back when it raises.

        With `is_one_statement`, the first statement is all that there will be, which needs no BEGIN. With `is_reading`,
        it changes and locks nothing, and doesn't wait until those are done that do.

        Raises:
            HiveError: the database refused something or is away, said as the answer to give.
            RuntimeError: there was a second statement, a change in a transaction that is reading, or a statement after
                the end of the block. It isn't sent.
        """
        with ERRORS_TRANSLATED:
            async with AsyncExitStack() as stack:
                # Only when there is something to send is there a connection to wait for.
                async def entered(enter: Callable[[Use], AbstractAsyncContextManager[Driver]], use: Use) -> Driver:
                    connection = await stack.enter_async_context(enter(use))
                    if transaction.is_closed:
                        # Nobody else would give back what came too late.
                        await stack.aclose()
                    return connection

                transaction = Transaction(
                    partial(entered, self._connections.transaction),
                    connect_for_one=partial(entered, self._connections.connection),
                    is_reading=is_reading,
                )
                transaction.is_one_statement = is_one_statement
                try:
                    yield transaction
                    await transaction.flush()
                except BaseException:
                    if transaction.is_committed:
                        # What failed came after the one statement, which stands.
                        self._tell(transaction.info)
                    raise
                finally:
                    transaction.close()
        self._tell(transaction.info)

    def _tell(self, info: dict[Any, Any]) -> None:
        """What a transaction has left to be done once it's committed."""
        self.forget_sign_ins(info.pop(ENDED_SIGN_INS, ()))
        write_noted(info)
        if info.pop(WAKES_RELAY, False):
            self.wake_relay()

    async def read(self, sql: str, arguments: Sequence[object]) -> asyncpg.Record | None:
        """The first row of what a statement answers that changes nothing, which needs no transaction.

        Raises:
            HiveError: as `unit_of_work` does.
        """
        with ERRORS_TRANSLATED:
            return await self._connections.fetch_row(sql, arguments)

    async def search(self, sql: str, arguments: Sequence[object]) -> asyncpg.Record | None:
        """As `read`, for what may take long by what somebody asks for: on few connections, and not for long.

        Raises:
            SearchTooSlow: it took as long as a search may.
            TooManySearching: the connections for searches were all in use for a while.
            HiveError: as `unit_of_work` does.
        """
        with ERRORS_TRANSLATED:
            try:
                return await self._searches.fetch_row(sql, arguments)
            except asyncpg.QueryCanceledError as error:
                raise SearchTooSlow from error
            except NoTurn as error:
                raise TooManySearching from error

    async def hurry(self, transaction: Transaction) -> None:
        """Let no further statement of the transaction take longer than one of a search may."""
        await transaction.scalar(_SET_TIMEOUT, {"timeout": self._search_timeout})

    @asynccontextmanager
    async def exclusively(self, lock: int, *, idle_seconds: int = 10) -> AsyncIterator["Database | None"]:
        """Hold an advisory lock; None when somebody else holds it.

        A holder that sends nothing for `idle_seconds` loses it: a process that is frozen keeps its connection, and
        would keep the lock for ever.

        The database that is given works on the one connection that holds the lock: who loses the lock can
        write nothing more.

        Raises:
            HiveError: as `unit_of_work` does.
        """
        with ERRORS_TRANSLATED:
            async with self._connections.connection() as connection:
                if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", lock):
                    yield None
                    return
                try:
                    await connection.execute(f"SET idle_session_timeout = '{idle_seconds}s'")
                    yield Database(HeldConnection(connection))
                finally:
                    # The lock goes with the connection, which must not return to the pool with it.
                    connection.terminate()

    async def close(self) -> None:
        for pool in (self._connections, self._searches):
            if isinstance(pool, DriverPool):
                await pool.close()


_SET_TIMEOUT = keep(
    select(
        func.set_config(
            literal_column("'statement_timeout'"), bindparam("timeout", type_=Text()), literal_column("true")
        )
    )
)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms"


class _ErrorsTranslated:
    """Raises failures of the database as the errors that requests are answered with."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not isinstance(error, Exception):
            return
        if translated := ConnectionsInUse() if isinstance(error, NoTurn) else from_database(error):
            _log_seldom(translated)
            raise translated from error


ERRORS_TRANSLATED = _ErrorsTranslated()


def _log_seldom(error: HiveError) -> None:
    if is_fault_of_database(error) and (left_out := _seldom.times(error.reason)) is not None:
        log.warning("the database can't be used", reason=error.reason, left_out=left_out)
