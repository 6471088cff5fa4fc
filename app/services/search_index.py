"""Looking after tasks whose texts were written by something else than this version of HIVE."""

from sqlalchemy import select, text

from app.db.transaction import Transaction
from app.models import Task
from app.search_words import as_tsvector, words_of

BATCH = 500
# Past the model, for which this would be a change of the task, at this time.
_SET_WORDS = text(
    "UPDATE tasks SET words = CAST(given.words AS tsvector)"
    " FROM unnest(CAST(:ids AS uuid[]), CAST(:words AS text[])) AS given (id, words) WHERE tasks.id = given.id"
)


async def index_tasks(transaction: Transaction) -> bool:
    """Set the words of some tasks that have none. Return whether there may be more of them."""
    unindexed = select(Task.id, Task.title, Task.description).where(Task.words.is_(None)).limit(BATCH)
    rows = await transaction.execute(unindexed.with_for_update(key_share=True, skip_locked=True))
    words = {task_id: as_tsvector(words_of(title, description)) for task_id, title, description in rows}
    if words:
        await transaction.execute(_SET_WORDS, {"ids": list(words), "words": list(words.values())})
    return len(words) == BATCH
