"""How Alembic reaches the database: asynchronously, one migrating process at a time, never waiting long for a lock."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.backing import join_backing
from app.causes.postgres import is_unmigrated, known_why_postgres
from app.config import ConfigurationError, load_settings
from app.core.logging import configure_logging
from app.database import driver_options
from app.db.encoding import require_utf8
from app.db.limit import open_connection
from app.embedded import EmbeddedError
from app.migrate import DATABASE_FAILURES
from app.models import Base
from app.models.base import Vocabulary
from app.server_checks import why_database_unusable
from migrations.online import LOCK_TIMEOUT

# Any number will do, as long as it's the same in every process and nothing else uses it.
MIGRATION_LOCK = 4_183_001
LONGEST_TURN_SECONDS = 3_600
# For so long a lock that is not to be had is asked for again and again, with pauses in between.
LOCK_PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.5
# No lock in time, or a deadlock.
LOCKED_OUT = {"55P03", "40P01"}


def render_item(type_: str, item: object, _context: AutogenContext) -> str | Literal[False]:
    # A revision must not change when the code does, so it says what the column is in the database.
    if type_ == "type" and isinstance(item, Vocabulary):
        return "sa.Text()"
    return False


def wait_for_turn(connection: Connection) -> None:
    """Wait while another process migrates, which may take minutes.

    The lock is asked for again and again: a statement that waits for it would be one that `CREATE INDEX CONCURRENTLY`
    in the other process waits for.
    """
    end = time.monotonic() + LONGEST_TURN_SECONDS
    while not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": MIGRATION_LOCK}).scalar_one():
        connection.commit()
        if time.monotonic() > end:
            raise CommandError("another process has been migrating the database for too long")
        time.sleep(0.2)
    connection.commit()


def run_migrations(connection: Connection) -> None:
    with one_sentence():
        require_utf8(str(connection.scalar(text("SHOW server_encoding"))))
    connection.execute(text("SET statement_timeout = 0"))
    wait_for_turn(connection)
    patience = context.config.attributes.get("lock_patience_seconds", LOCK_PATIENCE_SECONDS)
    end = time.monotonic() + patience
    while not _run_all(connection, is_last_try=time.monotonic() > end):
        # Those who have queued behind it go first.
        time.sleep(PAUSE_SECONDS)


def _run_all(connection: Connection, *, is_last_try: bool) -> bool:
    """Run what is left, unless a lock is not to be had soon; what was done until then is done."""
    connection.execute(text(LOCK_TIMEOUT))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_item=render_item,
        # Each revision is committed by itself, so that one's locks aren't held while the next one looks through a table.
        transaction_per_migration=True,
    )
    try:
        with context.begin_transaction():
            context.run_migrations()
    except DBAPIError as error:
        connection.rollback()
        if is_last_try or getattr(error.orig, "sqlstate", None) not in LOCKED_OUT:
            raise
        return False
    return True


async def run_async_migrations(url: str) -> None:
    options = driver_options(url, application="migrate", answer_seconds=None)
    engine = create_async_engine(
        # asyncpg reads the provider's options itself, such as sslmode, which SQLAlchemy's URL would lose.
        "postgresql+asyncpg://",
        async_creator=partial(open_connection, options),
        poolclass=NullPool,
        hide_parameters=True,
    )
    with one_sentence():
        async with engine.connect() as connection:
            await connection.run_sync(run_migrations)
    await engine.dispose()


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn what a user can mend into an error that Alembic tells without a stack."""
    try:
        yield
    except (ConfigurationError, EmbeddedError) as error:
        raise CommandError(str(error)) from error
    except DATABASE_FAILURES as error:
        # A table that a revision misses is not missing because nobody has migrated.
        cause = None if is_unmigrated(error) else known_why_postgres(error)
        if cause is None:
            raise
        raise CommandError(cause.sentence) from error


def run_migrations_offline() -> None:
    context.configure(
        dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True, render_item=render_item
    )
    with context.begin_transaction():
        context.run_migrations()


def database_url() -> str:
    given: str | None = context.config.attributes.get("database_url")
    if given is not None:
        return given
    with one_sentence():
        settings = load_settings()
        configure_logging(settings, "migrate")
        url = join_backing(settings).database_url
    # `hive migrate`, which gives the address, has done it before.
    if (cause := asyncio.run(why_database_unusable(url))) is not None:
        raise CommandError(cause.sentence)
    return url


if context.is_offline_mode():
    run_migrations_offline()
else:
    asyncio.run(run_async_migrations(database_url()))
