"""Random requests by several callers, each compared with the rules: its answer, the rows, and the events."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import count
from typing import ClassVar

from hypothesis import note
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.model import asks
from tests.model.chronicle import check_history, check_holders, check_progress
from tests.model.clients import Clients
from tests.model.happenings import DoLeaseJobs, Happening, RunOut, SendAgain, happenings
from tests.model.hive import ADA, BEA, CALLERS, ROOT, Hive
from tests.model.names import Names
from tests.model.nouns import AVAILABLE, DRAFT, IN_PROGRESS, Answer, Caller, Event, Json, Request, Seen, Task
from tests.model.rules import World
from tests.model.store import Store

Act = Callable[[], Json | None]


class Machine(RuleBasedStateMachine):
    """One run: people who are new to a running HIVE, and their tasks."""

    # Hypothesis makes the machines, and knows nothing of what they run against.
    hive: ClassVar[Hive]

    def __init__(self) -> None:
        super().__init__()
        names = Names()
        self.clients = Clients(self.hive, names, self.hive.welcome(names))
        self.store = Store(self.hive, names)
        self.world = World()
        self._run = names.id_of("Ada").hex[-12:]
        self._numbers = count(1)
        self._sent: list[tuple[Caller, Request, Act]] = []
        self._made: list[str] = []
        self._last: dict[str, str] = {}
        self._rows: dict[str, Json] = {}
        self._told = 0

    @initialize()
    def begin(self) -> None:
        for status in (AVAILABLE, AVAILABLE, DRAFT):
            self._create(ADA, asks.Create(status), "none")

    @rule(this=happenings)
    def happens(self, this: Happening) -> None:
        task, other = self._choose(this)
        caller = self._caller(this.who, task)
        note(f"{caller} and {task} (or {other}): {this.what}, going by {this.seen}, death: {this.death}")
        match this.what:
            case asks.Create():
                self._create(caller, this.what, this.death)
            case SendAgain():
                self._send_again(this.what)
            case RunOut():
                self._run_out(task)
            case DoLeaseJobs():
                self.store.do_lease_jobs(task)
                self.world.return_overdue(task)
            case _:
                target = asks.Target(task, other, self._seen(task, *this.seen), self._run)
                self._ask(caller, this.what, target, this.death)

    @invariant()
    def what_is_stored_is_as_the_rules_have_it(self) -> None:
        rows = self.store.tasks()
        events = self.store.new_events()
        check_holders(rows)
        check_progress(self._rows, rows, events)
        assert rows == {name: _row(task) for name, task in self.world.tasks.items()}
        assert _by_task(events) == _by_task(self.world.events[self._told :])
        self._rows, self._told = rows, len(self.world.events)

    def teardown(self) -> None:
        # Otherwise what went wrong is told already.
        if sys.exception() is None:
            self.store.until_published()
            for caller in (ADA, BEA, ROOT):
                self._check_what_is_seen_by(caller)

    def _ask(self, caller: Caller, what: asks.Ask, target: asks.Target, death: str) -> None:
        request = what.request(self.world, target)
        act = partial(what.act, self.world, caller, target)
        if request.method == "POST":
            request = replace(request, key=self._new_key())
            self._sent.append((caller, request, act))
        if death == "sent" and (request.key is None or isinstance(what, asks.ClaimNext)):
            # Without a key nobody knows what happened. Nor if there was nothing to claim, for that isn't kept: the
            # request that was cut off may be done later than the one that followed it.
            death = "not read"
        self._die(death, caller, request, act)
        if death != "not read":
            self._compare(request, self._send(caller, request), self._expect(caller, request, act), death)

    def _create(self, caller: Caller, what: asks.Create, death: str) -> None:
        """Whose name it is only now that the task is there, so it's looked up before the answer is read."""
        name = f"task-{next(self._numbers):02}"
        target = asks.Target(name, name, Seen(), self._run)
        request = replace(what.request(self.world, target), key=self._new_key())
        act = partial(what.act, self.world, caller, target)
        self._die(death, caller, request, act)
        expected = self._expect(caller, request, act)
        given = self.clients.send(caller, request)
        if name in self.world.tasks:
            self.store.learn_of(name, self.world.tasks[name].fields["title"])
            self._made.append(name)
        self._compare(request, self.clients.in_words(given), expected, death)

    def _send_again(self, which: SendAgain) -> None:
        if which.back < len(self._sent):
            caller, request, act = self._sent[-1 - which.back]
            expected = self._expect(caller, request, act)
            # What was not kept is done now, so another body would be another request.
            if which.is_changed and expected.is_replayed:
                request = replace(request, body=_changed(request.body or {}))
                expected = self._expect(caller, request, act)
            self._compare(request, self._send(caller, request), expected)

    def _run_out(self, task: str) -> None:
        known = self.world.tasks.get(task)
        if known is not None and known.lease is not None:
            self.store.run_out(task)
            self.world.run_out(task)

    def _die(self, death: str, caller: Caller, request: Request, act: Act) -> None:
        match death:
            case "half sent":
                self.clients.break_off(caller, request)
            case "sent":
                self.clients.send_and_leave(caller, request)
            case "not read":
                self.clients.send_and_not_read(caller, request)
                self._expect(caller, request, act)

    def _send(self, caller: Caller, request: Request) -> Answer:
        return self.clients.in_words(self.clients.send(caller, request))

    def _expect(self, caller: Caller, request: Request, act: Act) -> Answer:
        return self.world.answer(caller, request, act)

    def _compare(self, request: Request, given: Answer, expected: Answer, death: str = "none") -> None:
        if death == "sent":
            # Which of the two was done, and which was answered the same, nobody can know.
            expected = replace(expected, is_replayed=given.is_replayed)
        assert (request, given) == (request, expected)

    def _check_what_is_seen_by(self, caller: Caller) -> None:
        seen = self.world.visible(caller)
        told = [replace(event, readers=None) for event in self.world.events if event.is_for(caller)]
        ours = [f"{letter} of {self._run}" for letter in "ab"]
        tasks = self.clients.tasks(caller, category=ours)
        assert tasks == [task.as_seen_by(caller.person) for task in seen]
        ready = self.clients.tasks(caller, category=ours, ready=True)
        assert ready == [task.as_seen_by(caller.person) for task in seen if self.world.is_ready(task)]
        assert _by_task(self.clients.log(caller, self.store.first_seq)) == _by_task(told)
        for task, shown in zip(seen, tasks, strict=True):
            history = self.clients.history(caller, task.name)
            assert history == _by_task(told).get(task.name, [])
            if caller.is_admin or (task.owner == caller.person and not task.is_handed_over):
                check_history(history, shown)

    def _choose(self, this: Happening) -> tuple[str, str]:
        """The task, and another one. What was deleted last is among them."""
        gone = [name for name in self._made if name not in self.world.tasks]
        there_are = [*self.world.tasks, *gone[-1:]]
        task, other = (there_are[number % len(there_are)] for number in (this.task, this.other))
        task = self._last.get(this.place, task)
        self._last = {"here": task, "there": other}
        return task, other

    def _caller(self, who: Caller | str, task: str) -> Caller:
        if isinstance(who, Caller):
            return who
        known = self.world.tasks.get(task)
        person = known and (known.holder if who == "holder" else known.owner)
        return next(caller for caller in CALLERS if person in {None, caller.person})

    def _seen(self, task: str, version: int | None, token: int | None) -> Seen:
        known = self.world.tasks.get(task) or Task(task, "", DRAFT, {})
        return Seen(
            version=None if version is None else known.version + version,
            token=None if token is None else max(known.token + token, 0),
        )

    def _new_key(self) -> str:
        return f"{self._run}-{next(self._numbers)}"


def _row(task: Task) -> Json:
    """The task as it must be stored."""
    return {
        "fields": task.fields,
        "owner": task.owner,
        "status": task.status,
        "holder": task.holder,
        "version": task.version,
        "token": task.token,
        "lease": task.lease,
        "is_overdue": task.is_overdue,
        "holds": task.holds,
        "held_by": [task.holder] if task.status == IN_PROGRESS else [],
        "blockers": task.blockers,
    }


def _by_task(events: Iterable[Event]) -> dict[str, list[Event]]:
    """One request may change several tasks, in any order."""
    found: dict[str, list[Event]] = {}
    for event in events:
        found.setdefault(event.task, []).append(event)
    return found


def _changed(body: Json) -> Json:
    """Another request of the same kind."""
    if "user_id" in body:
        return {**body, "user_id": "Bea" if body["user_id"] == "Ada" else "Ada"}
    return {**body, "lease_seconds": 7_200}
