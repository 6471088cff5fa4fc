"""Permissions: the one place that decides who may see and do what, for REST, sockets and jobs alike."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BindParameter, Select, Uuid, bindparam, or_, select
from sqlalchemy.dialects.postgresql import array

from app.core.errors import Forbidden, NotFound
from app.db.statements import keep
from app.db.transaction import Transaction
from app.models import PERSONAL_TYPES, Event, Task, TaskStatus, User


class ActorType(StrEnum):
    USER = "user"
    AGENT = "agent"  # A program with an account of its own, which belongs to a person.
    SYSTEM = "system"  # Nobody: a reminder comes by itself.


# No account has this id.
NOBODY = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Visibility:
    """What decides which tasks and events somebody sees. Two who are equal in this see the same.

    What is kept for many (a statement, an encoded batch of events) is kept by the part of it that they have in common.
    """

    user_id: UUID
    is_admin: bool = False

    def sees(self, task: Task) -> bool:
        return self.is_admin or task.status is not TaskStatus.DRAFT or task.owner_id == self.user_id

    def reads(self, event_type: str, audience: "Audience") -> bool:
        if audience is None or self.user_id in audience:
            return True
        return self.is_admin and event_type not in PERSONAL_TYPES

    @property
    def viewer_id(self) -> BindParameter[UUID]:
        """The viewer in a statement. It has a name, so that the statement serves all (see `app/db/statements.py`)."""
        return bindparam("viewer_id", self.user_id, Uuid())

    @property
    def statement_key(self) -> "Visibility":
        """Equal for all whose statements have the same text, and all that such a text may be made of."""
        return _OF_NOBODY[self.is_admin]

    @property
    def statement_values(self) -> dict[str, object]:
        """What the names in such a statement stand for."""
        return {"viewer_id": self.user_id}

    @property
    def group(self) -> "Visibility":
        """Equal for all who get the same of those events that concern none of them in person."""
        return _OF_NOBODY[self.is_admin]


_OF_NOBODY = {is_admin: Visibility(NOBODY, is_admin) for is_admin in (False, True)}


@dataclass(frozen=True, slots=True)
class Actor:
    """The account that acts: the part of it that permissions depend on."""

    id: UUID
    is_admin: bool = False
    type: ActorType = ActorType.USER
    # Made with the actor, for each request asks for it several times.
    visibility: Visibility = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "visibility", Visibility(self.id, self.is_admin))

    @classmethod
    def of(cls, user: User) -> "Actor":
        kind = ActorType.AGENT if user.is_agent else ActorType.USER
        return cls(id=user.id, is_admin=user.is_admin, type=kind)


SYSTEM = Actor(NOBODY, type=ActorType.SYSTEM)


class Permission(StrEnum):
    """What can be done to a task that one sees: `task:<verb>`."""

    TASK_VIEW = "task:view"
    TASK_EDIT = "task:edit"
    TASK_DELETE = "task:delete"
    TASK_ASSIGN = "task:assign"
    TASK_UNASSIGN = "task:unassign"
    TASK_CHANGE_STATUS = "task:change_status"
    TASK_CLAIM = "task:claim"


ANYBODY = frozenset({Permission.TASK_VIEW, Permission.TASK_CLAIM})
ASSIGNEE = ANYBODY | {Permission.TASK_UNASSIGN, Permission.TASK_CHANGE_STATUS}
OWNER = frozenset(Permission)

# The draft's own audience is its owner; a published task is everybody's to see.
Audience = Sequence[UUID] | None


class TaskNotFound(NotFound):
    code = "task_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such task.")


class AdminsOnly(Forbidden):
    code = "admins_only"

    def __init__(self) -> None:
        super().__init__("Only an admin may do this.")


class PermissionDenied(Forbidden):
    def __init__(self, permission: Permission) -> None:
        super().__init__(f"You may not do this to the task ({permission}).", permission=permission)


def permissions_on(actor: Actor, task: Task) -> frozenset[Permission]:
    """What the actor may do to a task; nothing at all means that they may not know of it."""
    if not actor.visibility.sees(task):
        return frozenset()
    if actor.is_admin or task.owner_id == actor.id:
        return OWNER
    return ASSIGNEE if task.assignee_id == actor.id else ANYBODY


def select_visible_tasks(visibility: Visibility) -> Select[Task]:
    """`Visibility.sees` as SQL. Every list and search of tasks starts from here."""
    if visibility.is_admin:
        return select(Task)
    return select(Task).where(or_(Task.status != TaskStatus.DRAFT, Task.owner_id == visibility.viewer_id))


def require_admin(actor: Actor) -> None:
    if not actor.is_admin:
        raise AdminsOnly


_SEEN = keep(select(Task).where(Task.id == bindparam("task_id")))
_LOCKED = keep(_SEEN.with_for_update())


async def access_task(
    transaction: Transaction, actor: Actor, task_id: UUID, permission: Permission, *, lock: bool = False
) -> Task:
    """The task, if the actor may do this to it. `lock` keeps others from changing it until the transaction ends.

    Raises:
        TaskNotFound: there is none, or none that the actor may know of.
        PermissionDenied: they see it, and may not do this.
    """
    task: Task | None = await transaction.scalar(_LOCKED if lock else _SEEN, {"task_id": task_id})
    granted = permissions_on(actor, task) if task else frozenset()
    if task is None or not granted:
        raise TaskNotFound
    require_permission(actor, task, permission)
    return task


def require_permission(actor: Actor, task: Task, permission: Permission) -> None:
    """Raises `PermissionDenied` unless the actor, who sees the task, may do this to it."""
    if permission not in permissions_on(actor, task):
        raise PermissionDenied(permission)


def audience_of(task: Task) -> Audience:
    """Return who sees the task as it stands, besides admins."""
    return [task.owner_id] if task.status is TaskStatus.DRAFT else None


def either_of(before: Audience, after: Audience) -> Audience:
    """Return who may read of a change: those who saw the task before it have to learn that they don't any more."""
    if before is None or after is None:
        return None
    return list(dict.fromkeys([*before, *after]))


def is_within(audience: Audience, wider: Audience) -> bool:
    """Whether all who are in the one are in the other as well."""
    return wider is None or (audience is not None and set(audience) <= set(wider))


def select_visible_events(visibility: Visibility) -> Select[Event]:
    """`Visibility.reads` as SQL."""
    is_in_audience = or_(Event.audience.is_(None), Event.audience.contains(array([visibility.viewer_id])))
    if visibility.is_admin:
        return select(Event).where(or_(Event.type.not_in(PERSONAL_TYPES), is_in_audience))
    return select(Event).where(is_in_audience)
