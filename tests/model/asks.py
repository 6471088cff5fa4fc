"""What can be asked for: the request as it's sent, and the same of the rules."""

from dataclasses import dataclass, field
from typing import Protocol

from tests.model.hive import PEOPLE
from tests.model.nouns import Caller, Json, Request, Seen
from tests.model.rules import NEXT, World

READ, WRITE, CLAIM = "tasks:read", "tasks:write", "tasks:claim"
PLAIN: Json = {"description": "", "category": "a", "priority": "medium", "impact_points": 0, "due_at": None}


@dataclass(frozen=True)
class Target:
    """The task that it's about, and another one; what the caller goes by; `run` tells the runs apart."""

    task: str
    other: str
    seen: Seen
    run: str

    def named(self, text: str) -> str:
        """The run's own, so that nobody claims what others have made, and titles are of one task each."""
        return f"{text} of {self.run}"


class Ask(Protocol):
    def request(self, world: World, target: Target) -> Request: ...

    def act(self, world: World, caller: Caller, target: Target) -> Json | None: ...


@dataclass(frozen=True)
class Create:
    status: str
    given: Json = field(default_factory=dict)

    def request(self, _world: World, target: Target) -> Request:
        return Request("POST", ("tasks",), WRITE, {**self._fields(target), "status": self.status})

    def act(self, world: World, caller: Caller, target: Target) -> Json:
        return world.create(caller, target.task, self.status, self._fields(target))

    def _fields(self, target: Target) -> Json:
        return {**PLAIN, "title": target.named(target.task), "category": target.named("a"), **self.given}


@dataclass(frozen=True)
class Edit:
    changes: Json

    def request(self, _world: World, target: Target) -> Request:
        return Request("PATCH", ("tasks", target.task), WRITE, self._changes(target), target.seen)

    def act(self, world: World, caller: Caller, target: Target) -> Json:
        return world.edit(caller, target.task, self._changes(target), target.seen)

    def _changes(self, target: Target) -> Json:
        if "category" not in self.changes:
            return self.changes
        return {**self.changes, "category": target.named(self.changes["category"])}


@dataclass(frozen=True)
class HandOver:
    person: str

    def request(self, _world: World, target: Target) -> Request:
        return Request("PATCH", ("tasks", target.task), WRITE, {"owner_id": self.person}, target.seen)

    def act(self, world: World, caller: Caller, target: Target) -> Json:
        return world.hand_over(caller, target.task, self.person, PEOPLE, target.seen)


def status_in(world: World, target: Target, direction: str) -> str:
    """A status, or the one that is `forward` or `back` from the task's present one."""
    if direction in NEXT:
        return direction
    known = world.tasks.get(target.task)
    allowed = NEXT[known.status] if known else [*NEXT]
    return allowed[0 if direction == "forward" else -1]


@dataclass(frozen=True)
class Step:
    direction: str

    def request(self, world: World, target: Target) -> Request:
        body = {"status": status_in(world, target, self.direction)}
        return Request("PUT", ("tasks", target.task, "status"), WRITE, body, target.seen)

    def act(self, world: World, caller: Caller, target: Target) -> Json:
        return world.step(caller, target.task, status_in(world, target, self.direction), target.seen)


@dataclass(frozen=True)
class FillIn:
    """Fields and status in one form."""

    changes: Json
    direction: str

    def request(self, world: World, target: Target) -> Request:
        body = {**self.changes, "status": status_in(world, target, self.direction)}
        return Request("PUT", ("tasks", target.task), WRITE, body, target.seen)

    def act(self, world: World, caller: Caller, target: Target) -> Json:
        status = status_in(world, target, self.direction)
        return world.fill_in(caller, target.task, self.changes, status, target.seen)


@dataclass(frozen=True)
class Assign:
    person: str

    def request(self, _world: World, target: Target) -> Request:
        return Request("POST", ("tasks", target.task, "assign"), WRITE, {"user_id": self.person}, target.seen)

    def act(self, world: World, caller: Caller, target: Target) -> Json:
        return world.assign(caller, target.task, self.person, PEOPLE, target.seen)


@dataclass(frozen=True)
class Claim:
    lease: int | None

    def request(self, _world: World, target: Target) -> Request:
        return Request("POST", ("tasks", target.task, "claim"), CLAIM, {"lease_seconds": self.lease}, target.seen)

    def act(self, world: World, caller: Caller, target: Target) -> Json:
        return world.claim(caller, target.task, self.lease, target.seen)


@dataclass(frozen=True)
class ClaimNext:
    lease: int | None
    categories: str

    def request(self, _world: World, target: Target) -> Request:
        body = {"lease_seconds": self.lease, "category": self._categories(target)}
        return Request("POST", ("tasks", "claim-next"), CLAIM, body)

    def act(self, world: World, caller: Caller, target: Target) -> Json | None:
        return world.claim_next(caller, self.lease, self._categories(target))

    def _categories(self, target: Target) -> list[str]:
        return [target.named(letter) for letter in self.categories]


@dataclass(frozen=True)
class Renew:
    lease: int | None

    def request(self, _world: World, target: Target) -> Request:
        return Request("POST", ("tasks", target.task, "lease"), CLAIM, {"lease_seconds": self.lease}, target.seen)

    def act(self, world: World, caller: Caller, target: Target) -> Json:
        return world.renew(caller, target.task, self.lease, target.seen)


@dataclass(frozen=True)
class Look:
    def request(self, _world: World, target: Target) -> Request:
        return Request("GET", ("tasks", target.task), READ, None, Seen(version=target.seen.version))

    def act(self, world: World, caller: Caller, target: Target) -> Json:
        return world.look(caller, target.task, target.seen)


@dataclass(frozen=True)
class Unassign:
    def request(self, _world: World, target: Target) -> Request:
        return Request("DELETE", ("tasks", target.task, "assign"), WRITE, None, target.seen)

    def act(self, world: World, caller: Caller, target: Target) -> Json:
        return world.unassign(caller, target.task, target.seen)


@dataclass(frozen=True)
class Block:
    def request(self, _world: World, target: Target) -> Request:
        return Request("PUT", ("tasks", target.task, "blockers", target.other), WRITE, None, target.seen)

    def act(self, world: World, caller: Caller, target: Target) -> Json:
        return world.block(caller, target.task, target.other, target.seen)


@dataclass(frozen=True)
class Unblock:
    def request(self, _world: World, target: Target) -> Request:
        return Request("DELETE", ("tasks", target.task, "blockers", target.other), WRITE, None, target.seen)

    def act(self, world: World, caller: Caller, target: Target) -> Json:
        return world.unblock(caller, target.task, target.other, target.seen)


@dataclass(frozen=True)
class Delete:
    def request(self, _world: World, target: Target) -> Request:
        return Request("DELETE", ("tasks", target.task), WRITE, None, target.seen)

    def act(self, world: World, caller: Caller, target: Target) -> Json:
        return world.delete(caller, target.task, target.seen)
