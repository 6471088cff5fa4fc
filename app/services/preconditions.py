"""What a caller wants to be true before their write happens, such as that they have seen the present version."""

from dataclasses import dataclass
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import DateTime, bindparam, func, select

from app.core.errors import HiveError
from app.core.etags import PreconditionRequired, etag_of, versions_in_if_match
from app.core.permissions import Actor, Permission, access_task, require_permission
from app.db.statements import keep
from app.db.transaction import Transaction
from app.models import Task, TaskStatus, User
from app.schemas.task import TaskResponse
from app.schemas.user import AccountState


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


class LeaseLost(HiveError):
    """Somebody else may be at the task, or anybody be about to take it. Nothing was changed."""

    status = 409
    code = "lease_lost"

    def __init__(self) -> None:
        super().__init__("This lease of the task is over.")


_HAS_RUN_OUT = keep(select(bindparam("until", type_=DateTime(timezone=True)) <= func.clock_timestamp()))


async def has_run_out(transaction: Transaction, task: Task) -> bool:
    """Whether the lease of the task, locked by now, is over by PostgreSQL's clock."""
    if task.lease_expires_at is None:
        return False
    return bool(await transaction.scalar(_HAS_RUN_OUT, {"until": task.lease_expires_at}))


@dataclass(frozen=True, slots=True)
class Precondition:
    """`versions` are those that the caller would overwrite, and `lease_token` what they hold the task by.

    None is whichever there is.
    """

    versions: frozenset[int] | None = None
    lease_token: int | None = None

    async def require_lease(self, transaction: Transaction, task: Task, actor: Actor) -> None:
        """Raises `LeaseLost` unless the actor holds the task by the token that was named, if one was."""
        if self.lease_token is not None and not (
            task.status is TaskStatus.IN_PROGRESS
            and task.assignee_id == actor.id
            and task.lease_token == self.lease_token
            and not await has_run_out(transaction, task)
        ):
            raise LeaseLost

    def require_version(self, task: Task, actor: Actor) -> None:
        """Raises `StaleVersion` unless the task, locked by now, has a version that was named."""
        if not self._admits(task.version):
            raise StaleVersion(task.version, TaskResponse.of(task, viewer=actor.id))

    def require_of_user(self, user: User, *, shown: BaseModel | None = None) -> None:
        """Raises `StaleVersion`, with `shown` or what the owner sees, unless the account has a named version."""
        if not self._admits(user.version):
            raise StaleVersion(user.version, shown or AccountState.model_validate(user))

    def _admits(self, version: int) -> bool:
        return self.versions is None or version in self.versions


UNCONDITIONAL = Precondition()


def precondition_of(if_match: str | None, *, is_required: bool) -> Precondition:
    """What a caller has asked for by `If-Match`, or in its place.

    Raises:
        MalformedInput: it's no list of entity tags.
        PreconditionRequired: there is none, and there has to be one.
    """
    if if_match is None and is_required:
        raise PreconditionRequired
    versions = None if if_match is None else versions_in_if_match(if_match)
    return Precondition(versions)


async def access_for_change(
    transaction: Transaction, actor: Actor, task_id: UUID, permission: Permission, precondition: Precondition
) -> Task:
    """The task, locked, if the actor may do this to it and it is as they take it to be.

    Raises:
        TaskNotFound, PermissionDenied: as `access_task` does.
        LeaseLost: they held it, and don't any more.
        StaleVersion: it has another version.
    """
    task = await access_task(transaction, actor, task_id, Permission.TASK_VIEW, lock=True)
    # First, for who has lost it is no longer its holder, and would learn only that they may not.
    await precondition.require_lease(transaction, task, actor)
    require_permission(actor, task, permission)
    precondition.require_version(task, actor)
    return task
