"""All tasks have their words, and an index finds them.

Nothing of it is in one transaction: tasks go on being written meanwhile. Cut off, it begins anew where it was.

Revision: 0021
After: 0020
"""

from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa
from alembic import context, op
from alembic.util import CommandError

from app.search_words import as_tsvector, words_of
from migrations.online import online, replace_indexes

revision: str = "0021"
down_revision: str | None = "0020"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

BATCH = 500
TEXTS = sa.text("SELECT id, title, description FROM tasks WHERE id > :after AND words IS NULL ORDER BY id LIMIT :batch")
# What somebody else is changing is passed over, and so is what was changed since it was read: a job finds tasks without
# words. A task that an old process changes after it was filled in here keeps its old words until the next revision,
# which looks for such tasks.
FILL = sa.text(
    "WITH given AS (SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:titles AS text[]), CAST(:descriptions AS text[]),"
    " CAST(:words AS text[])) AS given (id, title, description, words)),"
    " free AS (SELECT id FROM tasks WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)"
    " UPDATE tasks SET words = CAST(given.words AS tsvector) FROM given JOIN free USING (id)"
    " WHERE tasks.id = given.id AND tasks.words IS NULL"
    " AND (tasks.title, tasks.description) = (given.title, given.description)"
)
INDEXES = {
    "ix_tasks_words": "tasks USING gin (words)",
    "ix_tasks_without_words": "tasks (id) WHERE words IS NULL",
}
INDEX_BEFORE = {
    "ix_tasks_search": "tasks USING gin (to_tsvector('simple'::regconfig, (title || ' '::text) || description))"
}


def upgrade() -> None:
    if context.is_offline_mode():
        raise CommandError("this revision reads the texts of tasks and can't be written as SQL")
    fill(op.get_bind())
    with online():
        replace_indexes(INDEX_BEFORE, INDEXES)
    op.execute("ANALYZE tasks (words)")


def fill(connection: sa.Connection) -> None:
    after = UUID(int=0)
    with online():
        while rows := connection.execute(TEXTS, {"after": after, "batch": BATCH}).all():
            ids, titles, descriptions = (list(column) for column in zip(*rows, strict=True))
            words = [as_tsvector(words_of(title, description)) for _, title, description in rows]
            given = {"ids": ids, "titles": titles, "descriptions": descriptions, "words": words}
            connection.execute(FILL, given)
            after = ids[-1]


def downgrade() -> None:
    with online():
        replace_indexes(INDEXES, INDEX_BEFORE)
