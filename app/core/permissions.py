"""Permissions: the one place that decides who may see and do what, for REST, sockets and jobs alike."""

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Actor:
    """The account that acts: the part of it that permissions depend on."""

    id: UUID
    is_admin: bool = False
    type: ActorType = ActorType.USER

    @classmethod
    def of(cls, user: User) -> "Actor":
        kind = ActorType.AGENT if user.is_agent else ActorType.USER
        return cls(id=user.id, is_admin=user.is_admin, type=kind)


SYSTEM = Actor(UUID(int=0), type=ActorType.SYSTEM)


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


class PermissionDenied(Forbidden):
    def __init__(self, permission: Permission) -> None:
        super().__init__(f"You may not do this to the task ({permission}).", permission=permission)


def permissions_on(actor: Actor, task: Task) -> frozenset[Permission]:
    """What the actor may do to a task; nothing at all means that they may not know of it."""
    if actor.is_admin or task.owner_id == actor.id:
        return OWNER
    if task.status is TaskStatus.DRAFT:
        return frozenset()
    return ASSIGNEE if task.assignee_id == actor.id else ANYBODY


def viewer_id(actor: Actor) -> BindParameter[UUID]:
    """The actor in a statement. It has a name, so that the statement serves all (see `app/db/statements.py`)."""
    return bindparam("viewer_id", actor.id, Uuid())


def select_visible_tasks(actor: Actor) -> Select[Task]:
    """Every list and search of tasks starts from here."""
    if actor.is_admin:
        return select(Task)
    return select(Task).where(or_(Task.status != TaskStatus.DRAFT, Task.owner_id == viewer_id(actor)))


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


def audience_of(task: Task, *, previous_owner: UUID | None = None) -> Audience:
    """Return who may read an event about the task as it stands, besides admins: both owners of a draft handed over."""
    if task.status is not TaskStatus.DRAFT:
        return None
    if previous_owner is None or previous_owner == task.owner_id:
        return [task.owner_id]
    return [previous_owner, task.owner_id]


def may_read_event(actor: Actor, event_type: str, audience: Audience) -> bool:
    if audience is None or actor.id in audience:
        return True
    return actor.is_admin and event_type not in PERSONAL_TYPES


def select_visible_events(actor: Actor) -> Select[Event]:
    """`may_read_event` as SQL."""
    is_in_audience = or_(Event.audience.is_(None), Event.audience.contains(array([viewer_id(actor)])))
    if actor.is_admin:
        return select(Event).where(or_(Event.type.not_in(PERSONAL_TYPES), is_in_audience))
    return select(Event).where(is_in_audience)
