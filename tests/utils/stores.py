"""A database and a database of Redis: what the tests of one kind have to themselves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from asyncpg.exceptions import DeadlockDetectedError, ForeignKeyViolationError
from pydantic import SecretStr
from sqlalchemy import delete, event, select, text, update
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app import embedded
from app.config import Settings
from app.database import driver_options
from app.db.limit import open_connection
from app.models import AuditEntry, Base, EventLog
from tests.utils.databases import new_database, run_sql
from tests.utils.test_utils import PATIENCE, wait_until_async

ROOT = Path(__file__).resolve().parents[2]
# No test gets a log that begins at 0, as none does after one that has left events behind.
AS_AFTER_OTHER_TESTS = "UPDATE event_log SET last_seq = 1000, published_seq = 1000, purged_seq = 1000"
# What another transaction at the same rows can cause: one in another order, or one that makes new rows meanwhile.
AT_THE_SAME_ROWS = (DeadlockDetectedError, ForeignKeyViolationError)
# How HIVE's long-running programs name their connections.
PROGRAMS_CONNECTED = text(
    "SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name ~ '^hive (api|relay|worker|scheduler)'"
)


@dataclass(frozen=True)
class Stores:
    database_url: str
    redis_url: str
    settings: Settings
    engine: AsyncEngine

    async def empty_tables(self) -> None:
        """Delete all rows. Where a relay and a worker run, they may be at some of them in another order."""
        for _ in range(10):
            try:
                await _delete_rows(self.engine)
            except DBAPIError as error:
                if not isinstance(error.orig.__cause__ if error.orig else None, AT_THE_SAME_ROWS):
                    raise
            else:
                return
        raise AssertionError("the tables can't be emptied")

    async def until_no_program_is_connected(self) -> None:
        """Wait until the last process of HIVE has left the database; fail if one stays."""

        async def is_alone() -> bool:
            async with self.engine.connect() as connection:
                return not (await connection.scalars(PROGRAMS_CONNECTED)).all()

        await wait_until_async(is_alone, what="the end of a process on a database where only the tests may be at work")


@asynccontextmanager
async def new_stores(servers: str, data_dir: Path, *, redis_number: int) -> AsyncIterator[Stores]:
    """Make a migrated database, and connect nothing yet."""
    redis_url = f"{embedded.redis_url(servers)}?db={redis_number}"
    async with new_database(servers, is_migrated=True) as database_url:
        await run_sql(database_url, AS_AFTER_OTHER_TESTS)
        engine = create_engine(database_url)
        event.listen(engine.sync_engine, "connect", _let_transactions_wait)
        settings = Settings(
            _env_file=ROOT / ".env.test",
            database_url=SecretStr(database_url),
            redis_url=SecretStr(redis_url),
            hive_data_dir=data_dir,
        )
        yield Stores(database_url, redis_url, settings, engine)
        await engine.dispose()


def patient_options(database_url: str) -> dict[str, Any]:
    """How tests connect. On a busy machine locks are held and statements take longer than HIVE waits in production."""
    options = driver_options(database_url, application="tests", answer_seconds=PATIENCE)
    options["server_settings"] |= {"statement_timeout": f"{PATIENCE:.0f}s", "lock_timeout": f"{PATIENCE:.0f}s"}
    return options | {"timeout": PATIENCE}


def create_engine(database_url: str, *, pool_size: int = 30) -> AsyncEngine:
    """SQLAlchemy's own way to the database, to make rows and to look at them."""
    options = patient_options(database_url)
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=partial(open_connection, options),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=PATIENCE,
    )


def _let_transactions_wait(connection: DBAPIConnection, _: object) -> None:
    """A test may hold a lock until something has come, for longer on a busy machine than HIVE would in production."""
    cursor = connection.cursor()
    cursor.execute("SET idle_in_transaction_session_timeout = 0")
    cursor.close()
    connection.commit()


async def _delete_rows(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("SET LOCAL statement_timeout = 0"))
        for table in reversed(Base.metadata.sorted_tables):
            # The log goes on counting: processes that outlive a test know how far it came.
            if table is AuditEntry.__table__:
                await _empty_audit_log(connection)
            elif table is not EventLog.__table__:
                await connection.execute(delete(table))
        # As when they are purged. Otherwise the stream would tell a new process of events that the log lacks, and it
        # would take the database for a restored one.
        await connection.execute(update(EventLog).values(purged_seq=EventLog.last_seq))


async def _empty_audit_log(connection: AsyncConnection) -> None:
    """It refuses to be emptied, so what refuses it has to be put aside first."""
    if await connection.scalar(select(AuditEntry.id).limit(1)) is None:
        return
    await connection.execute(text("ALTER TABLE audit_log DISABLE TRIGGER USER"))
    await connection.execute(delete(AuditEntry))
    await connection.execute(text("ALTER TABLE audit_log ENABLE TRIGGER USER"))
