"""The rules of HIVE's tasks in plain Python: what each request is answered, what it changes, and who is told.

They are written from the contract and the documentation, and nothing of the application is in them: where the two
differ, one is wrong. Tasks and people go by short names here, and a time is there or isn't.

A request either happens as a whole, or is `Refused` and changes nothing. What happens raises the version of the task
by one, with one event; a task that others wait for changes those as well.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from tests.model.nouns import (
    AVAILABLE,
    COMPLETED,
    DRAFT,
    IN_PROGRESS,
    Answer,
    Caller,
    Event,
    Json,
    OneOf,
    Refused,
    Request,
    Seen,
    Task,
)

NEXT = {
    DRAFT: [AVAILABLE],
    AVAILABLE: [IN_PROGRESS, DRAFT],
    IN_PROGRESS: [COMPLETED, AVAILABLE],
    COMPLETED: [IN_PROGRESS],
}
BY_URGENCY = ["urgent", "high", "medium", "low"]

ANYBODY = frozenset({"task:view", "task:claim"})
HOLDER = ANYBODY | {"task:unassign", "task:change_status"}
OWNER = HOLDER | {"task:edit", "task:assign", "task:delete"}
NOBODY: frozenset[str] = frozenset()

# Leases that run out are nobody's doing.
SYSTEM = Caller("system", NOBODY, kind="system")


class World:
    """All tasks, all that was told of them, and the answers that are kept for requests under a key."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.events: list[Event] = []
        self._kept: dict[tuple[str, tuple[str, ...], str], tuple[Json | None, Answer]] = {}

    def answer(self, caller: Caller, request: Request, act: Callable[[], Json | None]) -> Answer:
        """Sent again under its key by the same person, a request does nothing more and is answered the same."""
        if request.scope not in caller.scopes:
            return Answer(403, {"code": "insufficient_scope", "needed_scope": request.scope})
        if request.key is None:
            return _outcome(request, act)
        place = (caller.person, request.path, request.key)
        if place in self._kept:
            body, answer = self._kept[place]
            is_the_same = body == request.body
            return replace(answer, is_replayed=True) if is_the_same else Answer(422, {"code": "idempotency_key_reused"})
        answer = _outcome(request, act)
        # Whoever found nothing to claim may ask again.
        if answer.status != 204:
            self._kept[place] = (request.body, answer)
        return answer

    # What is to be seen.

    def visible(self, caller: Caller) -> list[Task]:
        return [task for task in self.tasks.values() if self._rights(caller, task)]

    def is_blocked(self, task: Task) -> bool:
        return any(self.tasks[blocker].status != COMPLETED for blocker in task.blockers)

    def is_ready(self, task: Task) -> bool:
        return task.status == AVAILABLE and not self.is_blocked(task)

    def find(self, caller: Caller, name: str) -> Task:
        """A draft is its owner's alone (and admins'); to others it isn't there."""
        task = self.tasks.get(name)
        if task is None or not self._rights(caller, task):
            raise Refused(404, "task_not_found")
        return task

    def look(self, caller: Caller, name: str, seen: Seen) -> Json:
        task = self.find(caller, name)
        if seen.version == task.version:
            raise Refused(304)
        return task.as_seen_by(caller.person)

    # What the owner does.

    def create(self, caller: Caller, name: str, status: str, fields: Json) -> Json:
        task = self.tasks[name] = Task(name, caller.person, status, fields)
        self._tell(caller, task, "task.created", **fields, status=status, owner_id=caller.person)
        return task.as_seen_by(caller.person)

    def edit(self, caller: Caller, name: str, changes: Json, seen: Seen) -> Json:
        """What is the same already is not changed, and if that's all, nothing is."""
        task = self._access(caller, name, "task:edit", seen)
        changed = {each: value for each, value in changes.items() if task.fields[each] != value}
        if changed:
            task.fields = {**task.fields, **changed}
            self._change(caller, task, "task.updated", changed=changed)
        return task.as_seen_by(caller.person)

    def hand_over(self, caller: Caller, name: str, person: str, people: Iterable[str], seen: Seen) -> Json:
        """To another owner. Of a draft, both of them are told, and from then on the new one alone sees it."""
        task = self._access(caller, name, "task:edit", seen)
        before = task.owner
        if before != person:
            if person not in people:
                raise Refused(404, "user_not_found")
            task.owner, task.is_handed_over = person, True
            self._change(caller, task, "task.updated", former_owner=before, changed={"owner_id": person})
        return task.as_seen_by(caller.person)

    def fill_in(self, caller: Caller, name: str, changes: Json, wanted: str, seen: Seen) -> Json:
        """Edit and take a step, both or neither. The present status is no step."""
        task = self._access(caller, name, "task:change_status", seen)
        self._require_right(caller, task, "task:edit")
        if wanted == task.status:
            return self.edit(caller, name, changes, Seen())
        self._require_step(caller, task, wanted)
        # What is written while the task is withdrawn is for its owner alone.
        if wanted == DRAFT:
            self.step(caller, name, wanted, Seen())
            return self.edit(caller, name, changes, Seen())
        self.edit(caller, name, changes, Seen())
        return self.step(caller, name, wanted, Seen())

    def delete(self, caller: Caller, name: str, seen: Seen) -> Json:
        """Nobody waits for it any more."""
        task = self._access(caller, name, "task:delete", seen)
        self._change(caller, task, "task.deleted", title=task.fields["title"])
        del self.tasks[name]
        waiting = [other for other in self.tasks.values() if name in other.blockers]
        for other in waiting:
            other.blockers.remove(name)
            self._change(caller, other, "task.unblocked", blocker_id=_named_for_readers(task, other))
        if task.status != COMPLETED:
            self._tell_of_ready(caller, waiting)
        return {"message": "Task deleted"}

    def assign(self, caller: Caller, name: str, person: str, people: Iterable[str], seen: Seen) -> Json:
        """Hand the task from its holder to another; to the same one it changes nothing."""
        task = self._access(caller, name, "task:assign", seen)
        before, old = task.holder, task.status
        if person not in people:
            raise Refused(404, "user_not_found")
        if old == COMPLETED:
            raise Refused(409, "already_completed", allowed=NEXT[COMPLETED])
        if before != person:
            if old != IN_PROGRESS:
                self._require_unblocked(caller, task)
            task.give_to(person, by=caller.person)
            self._tell_of_holder(caller, task, "task.assigned", old, previous_assignee_id=before, assignee_id=person)
        return task.as_seen_by(caller.person)

    def block(self, caller: Caller, name: str, blocker: str, seen: Seen) -> Json:
        """Make a task wait for another one that the caller sees. No two wait for each other, however far around."""
        for each in sorted({name, blocker}):
            self._access(caller, each, *(("task:edit", seen) if each == name else ("task:view", Seen())))
        task, other = self.tasks[name], self.tasks[blocker]
        if task.status == COMPLETED:
            raise Refused(409, "already_completed", allowed=NEXT[COMPLETED])
        if blocker not in task.blockers:
            if ways := self._shortest_ways(blocker, name):
                hidden = set(self.tasks) - {each.name for each in self.visible(caller)}
                paths = [[None if step in hidden else step for step in [name, *way]] for way in ways]
                raise Refused(409, "dependency_cycle", path=OneOf(paths))
            task.blockers.add(blocker)
            self._change(caller, task, "task.blocked", blocker_id=_named_for_readers(other, task))
        return task.as_seen_by(caller.person)

    def unblock(self, caller: Caller, name: str, blocker: str, seen: Seen) -> Json:
        task = self._access(caller, name, "task:edit", seen)
        if blocker not in task.blockers:
            raise Refused(404, "not_a_blocker")
        other = self.tasks[blocker]
        task.blockers.remove(blocker)
        self._change(caller, task, "task.unblocked", blocker_id=_named_for_readers(other, task))
        if other.status != COMPLETED:
            self._tell_of_ready(caller, [task])
        return task.as_seen_by(caller.person)

    # What its holder does, or its owner.

    def step(self, caller: Caller, name: str, wanted: str, seen: Seen) -> Json:
        """Starting a task makes the caller its holder. A reopened one is its last holder's again."""
        task = self._access(caller, name, "task:change_status", seen)
        old, before = task.status, task.holder
        self._require_step(caller, task, wanted)
        if wanted == IN_PROGRESS:
            task.give_to(before or caller.person, by=caller.person)
        else:
            task.put_down(wanted, holder=before if wanted == COMPLETED else None)
        holders = {"assignee_id": task.holder, "previous_assignee_id": before}
        data: Json = {**holders, "old_status": old, "new_status": wanted, "completed_at": wanted == COMPLETED}
        self._change(caller, task, "task.status_changed", is_public=True, **data)
        if wanted == COMPLETED:
            self._tell_of_ready(caller, [other for other in self.tasks.values() if name in other.blockers])
        return task.as_seen_by(caller.person)

    def unassign(self, caller: Caller, name: str, seen: Seen) -> Json:
        task = self._access(caller, name, "task:unassign", seen)
        if task.status != IN_PROGRESS:
            raise Refused(409, "not_assigned", current=task.status)
        self._take_back(caller, task, "task.unassigned")
        return task.as_seen_by(caller.person)

    # What anybody does.

    def claim(self, caller: Caller, name: str, lease: int | None, seen: Seen) -> Json:
        """Take an available task, or one whose holder has not renewed in time. One's own one keeps as it is."""
        task = self.find(caller, name)
        self._require_lease(caller, task, seen)
        if self._holds(caller, task):
            return task.as_seen_by(caller.person)
        self._require_version(caller, task, seen)
        if task.status in {DRAFT, COMPLETED}:
            raise Refused(409, "not_available", current=task.status, allowed=NEXT[task.status])
        if task.status == IN_PROGRESS and not task.is_overdue:
            raise Refused(409, "already_claimed", holder=task.holder)
        self._require_unblocked(caller, task)
        return self._claim(caller, task, lease)

    def claim_next(self, caller: Caller, lease: int | None, categories: list[str]) -> Json | None:
        """The most urgent one, then what is due first, then the oldest; what is overdue if nothing is available."""
        wanted = [task for task in self.tasks.values() if task.fields["category"] in categories]
        ready = [task for task in wanted if self.is_ready(task)]
        overdue = [task for task in wanted if task.is_overdue and not self.is_blocked(task)]
        if found := min(ready or overdue, key=_claim_order, default=None):
            return self._claim(caller, found, lease)
        return None

    def renew(self, caller: Caller, name: str, lease: int | None, seen: Seen) -> Json:
        """To all others nothing changes, so the version stays and nobody is told."""
        task = self.find(caller, name)
        self._require_lease(caller, task, seen)
        if not self._holds(caller, task):
            raise Refused(409, "lease_lost")
        if lease is None and task.lease is None:
            raise Refused(409, "no_lease")
        task.lease = lease or task.lease
        return task.as_seen_by(caller.person)

    # What time does.

    def run_out(self, name: str) -> None:
        """It stays its holder's until somebody claims it, or the job of the lease gets to it."""
        self.tasks[name].is_overdue = True

    def return_overdue(self, name: str) -> None:
        task = self.tasks.get(name)
        if task is not None and task.is_overdue:
            self._take_back(SYSTEM, task, "task.lease_expired")

    # The parts of it.

    def _rights(self, caller: Caller, task: Task) -> frozenset[str]:
        if caller.is_admin or task.owner == caller.person:
            return OWNER
        if task.status == DRAFT:
            return NOBODY
        return HOLDER if task.holder == caller.person else ANYBODY

    def _access(self, caller: Caller, name: str, right: str, seen: Seen) -> Task:
        """A caller who has lost the task is told so first, for otherwise they would learn only that they may not."""
        task = self.find(caller, name)
        self._require_lease(caller, task, seen)
        self._require_right(caller, task, right)
        self._require_version(caller, task, seen)
        return task

    def _require_right(self, caller: Caller, task: Task, right: str) -> None:
        if right not in self._rights(caller, task):
            raise Refused(403, "forbidden", permission=right)

    def _require_step(self, caller: Caller, task: Task, wanted: str) -> None:
        if wanted not in NEXT[task.status]:
            raise Refused(409, "invalid_transition", current=task.status, allowed=NEXT[task.status])
        if (task.status, wanted) == (AVAILABLE, IN_PROGRESS):
            self._require_unblocked(caller, task)

    def _require_lease(self, caller: Caller, task: Task, seen: Seen) -> None:
        if seen.token is not None and not (self._holds(caller, task) and seen.token == task.token):
            raise Refused(409, "lease_lost")

    def _require_version(self, caller: Caller, task: Task, seen: Seen) -> None:
        if seen.version not in {None, task.version}:
            raise Refused(412, "stale_version", current=task.as_seen_by(caller.person))

    def _require_unblocked(self, caller: Caller, task: Task) -> None:
        unfinished = {name for name in task.blockers if self.tasks[name].status != COMPLETED}
        if unfinished:
            visible = sorted(unfinished & {each.name for each in self.visible(caller)})
            raise Refused(409, "blocked", waiting_for=visible, hidden=len(unfinished) - len(visible))

    def _holds(self, caller: Caller, task: Task) -> bool:
        return task.status == IN_PROGRESS and task.holder == caller.person and not task.is_overdue

    def _claim(self, caller: Caller, task: Task, lease: int | None) -> Json:
        self.return_overdue(task.name)
        task.give_to(caller.person, by=caller.person, lease=lease)
        data = {"assignee_id": caller.person, "previous_assignee_id": None}
        self._tell_of_holder(caller, task, "task.assigned", AVAILABLE, **data)
        return task.as_seen_by(caller.person)

    def _take_back(self, caller: Caller, task: Task, event: str) -> None:
        before = task.holder
        task.put_down(AVAILABLE)
        self._tell_of_holder(caller, task, event, IN_PROGRESS, previous_assignee_id=before)

    def _shortest_ways(self, start: str, end: str) -> list[list[str]]:
        ways = [[start]]
        while ways:
            if arrived := [way for way in ways if way[-1] == end]:
                return arrived
            ways = [[*way, blocker] for way in ways for blocker in self.tasks[way[-1]].blockers]
        return []

    def _tell_of_ready(self, caller: Caller, waiting: Iterable[Task]) -> None:
        for task in waiting:
            if self.is_ready(task):
                self._change(caller, task, "task.ready")

    def _tell_of_holder(self, caller: Caller, task: Task, event: str, old: str, **data: Any) -> None:
        self._change(caller, task, event, old_status=old, new_status=task.status, **data)

    def _change(
        self,
        caller: Caller,
        task: Task,
        event: str,
        *,
        is_public: bool = False,
        former_owner: str | None = None,
        **data: Any,
    ) -> None:
        task.version += 1
        self._tell(caller, task, event, is_public=is_public, former_owner=former_owner, **data)

    def _tell(
        self,
        caller: Caller,
        task: Task,
        event: str,
        *,
        is_public: bool = False,
        former_owner: str | None = None,
        **data: Any,
    ) -> None:
        """What happens to a draft is for its owner; that a task was withdrawn is for those who saw it."""
        owners = frozenset({task.owner, former_owner or task.owner})
        readers = owners if task.status == DRAFT and not is_public else None
        self.events.append(Event(task.name, task.version, event, caller.person, caller.kind, readers, data))


def _outcome(request: Request, act: Callable[[], Json | None]) -> Answer:
    try:
        body = act()
    except Refused as refused:
        return refused.answer
    if body is None:
        return Answer(204)
    return Answer(201 if request.path == ("tasks",) else 200, body)


def _claim_order(task: Task) -> tuple[int, bool, str]:
    due = task.fields["due_at"]
    # Names are in the order in which the tasks were made.
    return BY_URGENCY.index(task.fields["priority"]), due is None, f"{due} {task.name}"


def _named_for_readers(blocker: Task, task: Task) -> str | None:
    """No event names a draft to somebody who may not see it."""
    is_between_drafts = task.status == DRAFT and task.owner == blocker.owner
    return blocker.name if blocker.status != DRAFT or is_between_drafts else None
