"""Looking after tasks whose texts were written by something else than this version of HIVE."""

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Task
from app.search_words import as_tsvector, words_of

BATCH = 500
# Past the model, for which this would be a change of the task, at this time.
_SET_WORDS = text("UPDATE tasks SET words = CAST(:words AS tsvector) WHERE id = :id")


async def index_tasks(session: AsyncSession) -> bool:
    """Set the words of some tasks that have none. Return whether there may be more of them."""
    unindexed = select(Task.id, Task.title, Task.description).where(Task.words.is_(None)).limit(BATCH)
    rows = (await session.execute(unindexed.with_for_update(key_share=True, skip_locked=True))).all()
    words = [{"id": row.id, "words": as_tsvector(words_of(row.title, row.description))} for row in rows]
    if words:
        await session.execute(_SET_WORDS, words)
    return len(words) == BATCH
