"""Revisions while others use the database: what they lock, that they may be cut off, and that they wait for a lock."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, event

from app.migrate import alembic_config, migrate_database
from app.revisions import newest_revision
from tests.integration.migrations.test_migrations import fill
from tests.utils.databases import new_database, run_sql
from tests.utils.test_utils import wait_until_async

# Those before it were written before anybody could have had much in a database.
FIRST = "0020"
BEFORE_FIRST = "0019"
NOTE_OF_ALEMBIC = "UPDATE alembic_version"
TABLE = r'(?:IF NOT EXISTS |ONLY )?"?(\w+)'


class CutOffError(Exception):
    pass


class Recorder:
    """What was committed together, and a revision that is cut off right before it's noted as done, if so wanted."""

    def __init__(self) -> None:
        self.transactions: list[list[str]] = []
        self.cuts_off = False
        self._open: list[str] = []

    def begin_statement(
        self, connection: Connection, _cursor: Any, statement: str, _parameters: Any, _context: Any, _many: bool
    ) -> None:
        statement = " ".join(statement.split())
        if self.cuts_off and statement.startswith(NOTE_OF_ALEMBIC):
            raise CutOffError
        if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
            self.transactions.append([statement])
        else:
            self._open.append(statement)

    def end(self, _connection: Connection) -> None:
        if self._open:
            self.transactions.append(self._open)
            self._open = []

    @contextmanager
    def at_work(self) -> Iterator["Recorder"]:
        listeners: list[tuple[str, Callable[..., Any]]] = [
            ("before_cursor_execute", self.begin_statement),
            ("commit", self.end),
            ("rollback", self.end),
        ]
        for name, listener in listeners:
            event.listen(Engine, name, listener)
        try:
            yield self
        finally:
            for name, listener in listeners:
                event.remove(Engine, name, listener)


def faults(transaction: list[str]) -> Iterator[str]:
    """Why the others would wait for more than a moment while this is done in a database that is large."""
    new = {name for each in transaction for name in re.findall(f"CREATE TABLE {TABLE}", each)}
    altered = {
        name
        for each in transaction
        for name in re.findall(rf"(?:ALTER TABLE|TRIGGER \w+ .*? ON|LOCK TABLE) {TABLE}", each)
        if name not in new
    }
    if len(altered) > 1:
        yield f"one transaction locks {sorted(altered)}"
    for statement in transaction:
        is_new = any(re.search(rf"\b{name}\b", statement) for name in new)
        writes = re.search(rf"^(?:UPDATE|DELETE FROM) {TABLE}|\bUPDATE (\w+) SET", statement)
        if not is_new and re.search(r"ADD CONSTRAINT (?!.*NOT VALID)", statement):
            yield f"rows are looked through under a lock: {statement}"
        if not is_new and re.search(r"CREATE (UNIQUE )?INDEX (?!CONCURRENTLY)", statement):
            yield f"an index is made under a lock: {statement}"
        if re.search(r"SET NOT NULL| TYPE |ADD COLUMN .*(REFERENCES|CHECK|random|uuid|GENERATED)", statement):
            yield f"all rows are looked through or written under a lock: {statement}"
        if "VALIDATE CONSTRAINT" in statement and len(transaction) > 1:
            yield f"locks are held meanwhile: {statement}"
        in_batches = re.search(r"\bLIMIT\b|unnest\(", statement) and not altered
        if writes and not in_batches and not statement.startswith(NOTE_OF_ALEMBIC):
            yield f"many rows are written at once, or under a lock: {statement}"


@pytest.mark.parametrize(
    "transaction",
    [
        ["ALTER TABLE users ADD CONSTRAINT c CHECK (true)"],
        ["ALTER TABLE users DROP CONSTRAINT c", "ALTER TABLE jobs DROP CONSTRAINT c"],
        ["ALTER TABLE users ADD CONSTRAINT c CHECK (true) NOT VALID", "ALTER TABLE users VALIDATE CONSTRAINT c"],
        ["ALTER TABLE users ADD COLUMN n bigint", "UPDATE users SET n = 1 WHERE id IN (SELECT id FROM users LIMIT 9)"],
        ["UPDATE users SET role = ''"],
        ["DELETE FROM events WHERE seq < 9"],
        ["CREATE INDEX ix_n ON users (n)"],
        ["CREATE UNIQUE INDEX ix_n ON users (n)"],
        ["ALTER TABLE users ALTER COLUMN n SET NOT NULL"],
        ["ALTER TABLE users ALTER COLUMN n TYPE text"],
        ["ALTER TABLE users ADD COLUMN n uuid DEFAULT gen_random_uuid()"],
    ],
)
def test_what_would_keep_others_waiting_is_found(transaction: list[str]) -> None:
    assert list(faults(transaction))


@pytest.fixture
async def url(servers: str) -> AsyncIterator[str]:
    """A database with a row in every table, at the revision before the first one that is looked at."""
    async with new_database(servers) as url:
        await asyncio.to_thread(migrate_database, url)
        await fill(url)
        await asyncio.to_thread(command.downgrade, alembic_config(url), BEFORE_FIRST)
        yield url


async def test_revisions_keep_nobody_waiting_and_go_on_where_they_were_cut_off(url: str) -> None:
    scripts = list(ScriptDirectory.from_config(alembic_config()).iterate_revisions("head", BEFORE_FIRST))
    revisions = [script.revision for script in reversed(scripts) if script.revision != BEFORE_FIRST]
    assert revisions[0] == FIRST
    found = {}
    for revision in revisions:
        with Recorder().at_work() as recorder:
            recorder.cuts_off = True
            with pytest.raises(CutOffError):
                await asyncio.to_thread(command.upgrade, alembic_config(url), revision)
            recorder.cuts_off = False
            await asyncio.to_thread(command.upgrade, alembic_config(url), revision)
        assert await run_sql(url, "SELECT version_num FROM alembic_version") == revision
        if told := {fault for transaction in recorder.transactions for fault in faults(transaction)}:
            found[revision] = told
        assert any(statement.startswith(NOTE_OF_ALEMBIC) for each in recorder.transactions for statement in each)

    assert found == {}
    await asyncio.to_thread(command.check, alembic_config(url))
    invalid = "SELECT count(*) FROM pg_constraint WHERE NOT convalidated"
    assert await run_sql(url, invalid) == 0
    await fill(url)


async def test_a_revision_asks_again_for_a_lock_that_somebody_has(url: str) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    reader = await asyncpg.connect(url)
    transaction = reader.transaction()
    await transaction.start()
    await reader.execute("SELECT count(*) FROM jobs")
    migrating = asyncio.create_task(asyncio.to_thread(migrate_database, url))

    async def are_waiting(number: int) -> bool:
        return bool(await run_sql(url, waiting) == number)

    # It has asked, given up so that others get on, and asked again.
    for number in (1, 0, 1):
        await wait_until_async(partial(are_waiting, number), what=f"{number} that wait")
    await transaction.rollback()
    await migrating
    await reader.close()

    assert await run_sql(url, "SELECT version_num FROM alembic_version") == newest_revision()
