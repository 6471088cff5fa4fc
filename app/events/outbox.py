"""Writing events: a row in the transaction of the change that it tells of."""

from collections.abc import Sequence

from uuid_utils.compat import uuid7

from app.core.permissions import Actor, Audience, audience_of
from app.db.transaction import WAKES_RELAY, Transaction
from app.events.jobs import ask_for_consequences
from app.events.types import EventData
from app.models import Event, Task


async def record(
    transaction: Transaction, event: EventData, *, actor: Actor, audience: Audience, task: Task | None = None
) -> None:
    """Write the event and ask for the jobs that follow from it. Both stand or fall with the transaction.

    `audience` is who may read it besides admins (None: everybody who is signed in). The task of an event that raises
    its version has to have that version already.
    """
    _add(transaction, event, actor=actor, audience=audience, task=task)
    await transaction.flush()


async def record_each(transaction: Transaction, events: Sequence[tuple[EventData, Task]], *, actor: Actor) -> None:
    """Write an event of each of many tasks, for everybody who may see the task as it stands, in few statements."""
    for event, task in events:
        _add(transaction, event, actor=actor, audience=audience_of(task), task=task)
    await transaction.flush()


def _add(transaction: Transaction, event: EventData, *, actor: Actor, audience: Audience, task: Task | None) -> None:
    row = Event(
        id=uuid7(),
        type=event.type,
        actor_id=actor.id,
        actor_type=actor.type,
        task_id=task.id if task else None,
        task_version=task.version if task and event.type.raises_version else None,
        audience=None if audience is None else list(audience),
        data=event.model_dump(mode="json"),
    )
    transaction.add(row)
    transaction.info[WAKES_RELAY] = True
    ask_for_consequences(transaction, event, row.id, actor=actor, task=task)
