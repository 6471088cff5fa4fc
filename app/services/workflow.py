"""The workflow of a task: the one table of what may follow what."""

from collections.abc import Mapping

from app.core.errors import Conflict
from app.models import TaskStatus

TRANSITIONS: Mapping[TaskStatus, tuple[TaskStatus, ...]] = {
    TaskStatus.DRAFT: (TaskStatus.AVAILABLE,),
    TaskStatus.AVAILABLE: (TaskStatus.IN_PROGRESS, TaskStatus.DRAFT),
    TaskStatus.IN_PROGRESS: (TaskStatus.COMPLETED, TaskStatus.AVAILABLE),
    TaskStatus.COMPLETED: (TaskStatus.IN_PROGRESS,),
}


class InvalidTransition(Conflict):
    code = "invalid_transition"

    def __init__(self, current: TaskStatus, wanted: TaskStatus) -> None:
        super().__init__(
            f"A task that is {current} can't become {wanted}.", current=current, allowed=TRANSITIONS[current]
        )


def require_transition(current: TaskStatus, wanted: TaskStatus) -> None:
    """Raises `InvalidTransition` unless the table has this step."""
    if wanted not in TRANSITIONS[current]:
        raise InvalidTransition(current, wanted)
