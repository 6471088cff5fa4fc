"""Writing events: a row in the transaction of the change that it tells of."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.permissions import Actor, Audience
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
    row = Event(
        type=event.type,
        actor_id=actor.id,
        actor_type=actor.type,
        task_id=task.id if task else None,
        task_version=task.version if task else None,
        audience=None if audience is None else list(audience),
        data=event.model_dump(mode="json"),
    )
    session.add(row)
    await session.flush()
    session.info[WAKES_RELAY] = True
    await ask_for_consequences(session, event, row.id, actor=actor, task=task)
