"""What a caller wants to be true before their write happens, such as that they have seen the present version."""

from dataclasses import dataclass
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import ColumnElement, true
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import HiveError
from app.core.etags import etag_of
from app.core.permissions import Actor, Permission, access_task
from app.models import Task, User
from app.schemas.task import TaskResponse
from app.schemas.user import UserResponse


class StaleVersion(HiveError):
    """Nothing was changed. `current` is the present state, from which the caller can decide anew."""

    status = 412
    code = "stale_version"

    def __init__(self, version: int, current: BaseModel) -> None:
        super().__init__(
            "It has been changed since the version that If-Match names.",
            headers={"ETag": etag_of(version)},
            current=current.model_dump(mode="json"),
        )


@dataclass(frozen=True, slots=True)
class Precondition:
    """`versions` are those that the caller would overwrite; None is whichever there is."""

    versions: frozenset[int] | None = None

    def require_of_task(self, task: Task) -> None:
        """Raises `StaleVersion` unless the task, locked by now, has a version that was named."""
        if not self._admits(task.version):
            raise StaleVersion(task.version, TaskResponse.model_validate(task))

    def require_of_user(self, user: User) -> None:
        """The same of an account."""
        if not self._admits(user.version):
            raise StaleVersion(user.version, UserResponse.model_validate(user))

    def as_sql(self) -> ColumnElement[bool]:
        """Whether a task's row has a version that was named, for a statement that changes it in one go."""
        return true() if self.versions is None else Task.version.in_(self.versions)

    def _admits(self, version: int) -> bool:
        return self.versions is None or version in self.versions


UNCONDITIONAL = Precondition()


async def access_for_change(
    session: AsyncSession, actor: Actor, task_id: UUID, permission: Permission, precondition: Precondition
) -> Task:
    """The task, locked, if the actor may do this to it and it is as they take it to be.

    Raises:
        TaskNotFound, PermissionDenied: as `access_task` does.
        StaleVersion: it has another version.
    """
    task = await access_task(session, actor, task_id, permission, lock=True)
    precondition.require_of_task(task)
    return task
