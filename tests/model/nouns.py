"""What the rules speak of: callers, requests and answers, tasks and events."""

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

DRAFT, AVAILABLE, IN_PROGRESS, COMPLETED = "draft", "available", "in_progress", "completed"


def is_name_of_task(name: str) -> bool:
    return name.startswith("task-")


@dataclass(frozen=True)
class Caller:
    """A sender of requests: a person or an agent, by a token with some scopes, or by a session that has all."""

    person: str
    scopes: frozenset[str]
    kind: str = "user"
    is_admin: bool = False

    def __repr__(self) -> str:
        return f"{self.person} ({len(self.scopes)} scopes)"


@dataclass(frozen=True)
class Seen:
    """What a caller goes by: the version in `If-Match` (`If-None-Match` when they look), and their hold of the task in
    `Hive-Lease-Token`.
    """

    version: int | None = None
    token: int | None = None


@dataclass(frozen=True)
class Request:
    method: str
    path: tuple[str, ...]
    scope: str
    body: Json | None = None
    seen: Seen = Seen()
    key: str | None = None


@dataclass(frozen=True)
class Answer:
    status: int
    body: Json | None = None
    is_replayed: bool = False


class Refused(Exception):
    def __init__(self, status: int, code: str | None = None, **members: Any) -> None:
        super().__init__(code)
        self.answer = Answer(status, {"code": code, **members} if code else None)


@dataclass(frozen=True)
class Event:
    """`readers` are those who may read it besides admins; None is everybody."""

    task: str
    version: int | None
    type: str
    actor: str
    actor_type: str
    readers: frozenset[str] | None
    data: Json

    def is_for(self, caller: Caller) -> bool:
        return caller.is_admin or self.readers is None or caller.person in self.readers


@dataclass(eq=False)
class Task:
    name: str
    owner: str
    status: str
    fields: Json
    holder: str | None = None
    version: int = 1
    # Counts the times of holding it, which `holds` has in order: who held it, and who gave it to them.
    token: int = 0
    holds: list[tuple[str, str]] = field(default_factory=list)
    # For how long its holder has it, in seconds; None is without end.
    lease: int | None = None
    is_overdue: bool = False
    blockers: set[str] = field(default_factory=set)
    # What it was as a draft of somebody else, its owner doesn't find in its history.
    is_handed_over: bool = False

    def as_seen_by(self, person: str) -> Json:
        """The lease is its holder's to see."""
        is_held = self.status == IN_PROGRESS and self.holder == person
        lease = {"token": self.token, "expires_at": "over" if self.is_overdue else self.lease} if is_held else None
        held_by = {"owner_id": self.owner, "assignee_id": self.holder, "completed_at": self.status == COMPLETED}
        return {
            "id": self.name,
            **self.fields,
            "status": self.status,
            **held_by,
            "version": self.version,
            "lease": lease,
        }

    def give_to(self, person: str, *, by: str, lease: int | None = None) -> None:
        self.status, self.holder, self.lease, self.is_overdue = IN_PROGRESS, person, lease, False
        self.token += 1
        self.holds.append((person, by))

    def put_down(self, status: str, *, holder: str | None = None) -> None:
        self.status, self.holder, self.lease, self.is_overdue = status, holder, None, False


class OneOf:
    """Equal to any of several, where the rules leave it open."""

    def __init__(self, options: list[list[str | None]]) -> None:
        self._options = options

    def __eq__(self, other: object) -> bool:
        return other in self._options

    def __hash__(self) -> int:
        raise TypeError

    def __repr__(self) -> str:
        return f"one of {self._options}"
