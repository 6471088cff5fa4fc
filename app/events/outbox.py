"""Writing events: a row in the transaction of the change that it tells of."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.permissions import Actor, Audience, audience_of
from app.database import WAKES_RELAY
from app.events.jobs import ask_for_consequences
from app.events.types import EventData
from app.models import Event, Task


async def record(
    session: AsyncSession, event: EventData, *, actor: Actor, audience: Audience, task: Task | None = None
) -> None:
    """Write the event and ask for the jobs that follow from it. Both stand or fall with the transaction.

    `audience` is who may read it besides admins (None: everybody who is signed in). The task has to be flushed,
    with the version that the event tells of.
    """
    row = _row(event, actor=actor, audience=audience, task=task)
    session.add(row)
    await session.flush()
    session.info[WAKES_RELAY] = True
    await ask_for_consequences(session, event, row.id, actor=actor, task=task)


async def record_each(session: AsyncSession, events: Sequence[tuple[EventData, Task]], *, actor: Actor) -> None:
    """The same for a change of each of many tasks, for whoever may see the task as it stands, in few statements."""
    rows = [_row(event, actor=actor, audience=audience_of(task), task=task) for event, task in events]
    session.add_all(rows)
    await session.flush()
    session.info[WAKES_RELAY] = True
    for (event, task), row in zip(events, rows, strict=True):
        await ask_for_consequences(session, event, row.id, actor=actor, task=task)


def _row(event: EventData, *, actor: Actor, audience: Audience, task: Task | None) -> Event:
    return Event(
        type=event.type,
        actor_id=actor.id,
        actor_type=actor.type,
        task_id=task.id if task else None,
        task_version=task.version if task else None,
        audience=None if audience is None else list(audience),
        data=event.model_dump(mode="json"),
    )
