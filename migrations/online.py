"""Changes of a database while others read and write it, so that each keeps them waiting for a moment at most.

Each statement is a transaction of its own, and one that doesn't get its lock is tried again with the whole revision, as
is one that was cut off. So a revision does first what may come twice, `online()`, and last what may not: that is one
transaction with the note that the revision is done.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import sqlalchemy as sa
from alembic import context, op

# What waits for a lock on a table has all others wait behind it.
LOCK_TIMEOUT = "SET lock_timeout = '1s'"
# An index that is made concurrently waits for old transactions, and nobody for it.
INDEX_LOCK_TIMEOUT = "SET lock_timeout = '10min'"
BATCH = 5_000


def online() -> AbstractContextManager[None]:
    """Each statement is committed by itself."""
    return op.get_context().autocommit_block()


def add_column(table: str, column: str, kind: str) -> None:
    """Add a column that is null, or has a constant default: no row is written."""
    op.execute(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column} {kind}")


def replace_check(table: str, name: str, condition: str) -> None:
    """Have the constraint, which may have been another one, and then look through the rows that are there."""
    dropped, added = f"DROP CONSTRAINT IF EXISTS {name}", f"ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID"
    op.execute(f"ALTER TABLE {table} {dropped}, {added}")
    # By itself, this stops neither readers nor writers.
    op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def replace_indexes(before: Mapping[str, str], after: Mapping[str, str], *, unique: bool = False) -> None:
    """Make indexes (`{"ix_tasks_words": "tasks USING gin (words)"}`), and then drop those which they replace."""
    with _patience_with_old_transactions():
        for name, definition in after.items():
            # One that was cut off is there, and of no use.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE {'UNIQUE ' if unique else ''}INDEX CONCURRENTLY {name} ON {definition}")
        for name in before:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def fill(table: str, assignment: str, condition: str) -> None:
    """Write to the rows that meet the condition, and then don't any more, some at a time."""
    if context.is_offline_mode():
        op.execute(f"UPDATE {table} SET {assignment} WHERE {condition}")  # noqa: S608
        return
    statement = sa.text(
        f"WITH batch AS (SELECT id FROM {table} WHERE ({condition}) AND id > :after"  # noqa: S608
        f" ORDER BY id LIMIT {BATCH} FOR NO KEY UPDATE),"
        f" written AS (UPDATE {table} SET {assignment} FROM batch WHERE {table}.id = batch.id)"
        " SELECT id FROM batch ORDER BY id DESC LIMIT 1"
    )
    after = "00000000-0000-0000-0000-000000000000"
    while after is not None:
        after = op.get_bind().scalar(statement, {"after": after})


@contextmanager
def _patience_with_old_transactions() -> Iterator[None]:
    op.execute(INDEX_LOCK_TIMEOUT)
    yield
    op.execute(LOCK_TIMEOUT)
