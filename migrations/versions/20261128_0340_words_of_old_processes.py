"""Tasks whose texts an old process changes are indexed anew.

A process of the version before knows nothing of `words`. What it changes while the new version is being installed
would be found by its old texts, and not by its new ones.

Revision: 0022
After: 0021
"""

from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa
from alembic import context, op
from alembic.util import CommandError

from app.search_words import as_tsvector, words_of
from migrations.online import online

revision: str = "0022"
down_revision: str | None = "0021"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# A trigger can't ask whether a statement sets a column, but triggers can be made for those that do. They run in the
# order of their names. What the first one marks as old, the second one takes back where the statement has set the
# words, which are the same for the old and the new texts (`Roses` and `roses`). No text has a word of this mark.
MARK = "'?'::tsvector"
NEW_TEXTS = "(NEW.title, NEW.description) IS DISTINCT FROM (OLD.title, OLD.description)"
FUNCTION = f"""
    CREATE OR REPLACE FUNCTION judge_words() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.words := CASE TG_ARGV[0] WHEN 'mark' THEN {MARK} WHEN 'keep' THEN OLD.words END;
        RETURN NEW;
    END $$
"""
TRIGGERS = (
    ("tasks_words_1_mark", "title, description", f"{NEW_TEXTS} AND NEW.words = OLD.words", "mark"),
    ("tasks_words_2_keep", "words", f"NEW.words = {MARK}", "keep"),
    ("tasks_words_3_forget", "title, description", f"NEW.words = {MARK}", "forget"),
)

BATCH = 500
# A task of version 1 has the texts that it was made with.
CHANGED = sa.text(
    "SELECT id, title, description FROM tasks WHERE id > :after AND version > 1 AND words IS NOT NULL"
    " ORDER BY id LIMIT :batch"
)
FORGET = sa.text(
    "WITH given AS (SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:titles AS text[]), CAST(:descriptions AS text[]),"
    " CAST(:words AS text[])) AS given (id, title, description, words)),"
    " old AS (SELECT tasks.id FROM tasks JOIN given USING (id) WHERE tasks.words <> CAST(given.words AS tsvector)"
    " AND (tasks.title, tasks.description) = (given.title, given.description)"
    " ORDER BY tasks.id FOR NO KEY UPDATE OF tasks)"
    " UPDATE tasks SET words = NULL FROM old WHERE tasks.id = old.id"
)


def upgrade() -> None:
    if context.is_offline_mode():
        raise CommandError("this revision reads the texts of tasks and can't be written as SQL")
    # In a transaction of their own: while they are made, nobody can change a task.
    op.execute(FUNCTION)
    for name, columns, condition, step in TRIGGERS:
        op.execute(
            f"CREATE OR REPLACE TRIGGER {name} BEFORE UPDATE OF {columns} ON tasks FOR EACH ROW WHEN ({condition})"
            f" EXECUTE FUNCTION judge_words('{step}')"
        )
    with online():
        forget_old_words(op.get_bind())


def forget_old_words(connection: sa.Connection) -> None:
    """Leave tasks that were changed since they got their words to the job that indexes tasks."""
    after = UUID(int=0)
    while rows := connection.execute(CHANGED, {"after": after, "batch": BATCH}).all():
        ids, titles, descriptions = (list(column) for column in zip(*rows, strict=True))
        words = [as_tsvector(words_of(title, description)) for _, title, description in rows]
        connection.execute(FORGET, {"ids": ids, "titles": titles, "descriptions": descriptions, "words": words})
        after = ids[-1]


def downgrade() -> None:
    for name, *_ in TRIGGERS:
        op.execute(f"DROP TRIGGER IF EXISTS {name} ON tasks")
    op.execute("DROP FUNCTION IF EXISTS judge_words()")
