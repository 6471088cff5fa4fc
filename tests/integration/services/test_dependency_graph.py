"""Random graphs and random changes: what HIVE says of them is what a look at the whole graph says."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import HiveError
from app.core.permissions import Actor, select_visible_tasks
from app.models import Event, EventType, Task, TaskBlocker, TaskStatus, User
from app.schemas.task import TaskFilter
from app.services import BlockerService, ClaimService, TaskService
from app.services.task_filter import filter_tasks
from app.services.workflow import TRANSITIONS
from tests.builders.tasks import create_task
from tests.utils.serving import Serving

SIZE = 4
AVAILABLE, IN_PROGRESS, COMPLETED = TaskStatus.AVAILABLE, TaskStatus.IN_PROGRESS, TaskStatus.COMPLETED
numbers = st.integers(0, SIZE - 1)
Change = tuple[Literal["add", "remove"], int, int] | tuple[Literal["step"], int, TaskStatus] | tuple[str, int, None]
# Mostly what adds to the graph and what goes forward, so that there is something to wait for, and an end of it.
changes: st.SearchStrategy[Change] = st.one_of(
    *[st.tuples(st.just("add"), numbers, numbers)] * 4,
    *[st.tuples(st.just("step"), numbers, st.sampled_from([IN_PROGRESS, COMPLETED]))] * 4,
    st.tuples(st.just("step"), numbers, st.sampled_from(TaskStatus)),
    st.tuples(st.just("remove"), numbers, numbers),
    st.tuples(st.sampled_from(["claim", "claim", "delete"]), numbers, st.none()),
)


@dataclass
class Oracle:
    """The whole graph, looked at anew for each question."""

    status: dict[int, TaskStatus] = field(default_factory=lambda: dict.fromkeys(range(SIZE), AVAILABLE))
    edges: set[tuple[int, int]] = field(default_factory=set)
    told: Counter[int] = field(default_factory=Counter)

    def blocked(self) -> set[int]:
        return {task for task, blocker in self.edges if self.status[blocker] is not COMPLETED}

    def ready(self) -> set[int]:
        return {task for task, status in self.status.items() if status is AVAILABLE} - self.blocked()

    def reaches(self, start: int, end: int) -> bool:
        return start == end or any(self.reaches(blocker, end) for task, blocker in self.edges if task == start)

    def apply(self, change: Change) -> str | None:
        """The code of the refusal; None if the change happens."""
        waited = {task for task in self.blocked() if self.status[task] is AVAILABLE}
        refusal = self._change(change)
        self.told.update(waited & self.ready())
        return refusal

    def _change(self, change: Change) -> str | None:
        match change:
            case (_, task, _) if task not in self.status:
                return "task_not_found"
            case ("add", int(task), int(blocker)):
                return self._add(task, blocker)
            case ("remove", int(task), int(blocker)):
                if (task, blocker) not in self.edges:
                    return "not_a_blocker"
                self.edges.remove((task, blocker))
            case ("step", task, TaskStatus() as wanted):
                return self._step(task, wanted)
            case ("claim", task, _):
                return self._claim(task)
            case (_, task, _):
                del self.status[task]
                self.edges = {edge for edge in self.edges if task not in edge}
        return None

    def _add(self, task: int, blocker: int) -> str | None:
        if blocker not in self.status:
            return "task_not_found"
        if self.status[task] is COMPLETED:
            return "already_completed"
        if (task, blocker) not in self.edges and self.reaches(blocker, task):
            return "dependency_cycle"
        self.edges.add((task, blocker))
        return None

    def _step(self, task: int, wanted: TaskStatus) -> str | None:
        if wanted not in TRANSITIONS[self.status[task]]:
            return "invalid_transition"
        if (self.status[task], wanted) == (AVAILABLE, IN_PROGRESS) and task in self.blocked():
            return "blocked"
        self.status[task] = wanted
        return None

    def _claim(self, task: int) -> str | None:
        if self.status[task] is AVAILABLE:
            return self._step(task, IN_PROGRESS)
        return None if self.status[task] is IN_PROGRESS else "not_available"


class System:
    """The tasks of the graph in HIVE, all of one owner."""

    def __init__(self, serving: Serving, session: AsyncSession, owner: User, tasks: list[UUID]) -> None:
        self._serving = serving
        self._session = session
        self._actor = Actor.of(owner)
        self._tasks = tasks

    async def apply(self, change: Change) -> str | None:
        try:
            await self._change(change)
        except HiveError as refusal:
            return refusal.error_code
        return None

    async def _change(self, change: Change) -> None:
        match change:
            case ("add", int(task), int(blocker)):
                await self._serving(BlockerService).add(self._actor, self._tasks[task], self._tasks[blocker])
            case ("remove", int(task), int(blocker)):
                await self._serving(BlockerService).remove(self._actor, self._tasks[task], self._tasks[blocker])
            case ("step", task, TaskStatus() as wanted):
                await self._serving(TaskService).change_status(self._actor, self._tasks[task], wanted)
            case ("claim", task, _):
                await self._serving(ClaimService).claim(self._actor, self._tasks[task])
            case (_, task, _):
                await self._serving(TaskService).delete(self._actor, self._tasks[task])

    async def listed(self, *, ready: bool) -> set[int]:
        visibility = self._actor.visibility
        visible = select_visible_tasks(visibility)
        found = await self._session.scalars(filter_tasks(visible, TaskFilter(ready=ready), visibility))
        return {self._tasks.index(task.id) for task in found if task.id in self._tasks}

    async def told(self) -> Counter[int]:
        ready = select(Event.task_id).where(Event.type == EventType.TASK_READY, Event.task_id.in_(self._tasks))
        return Counter(self._tasks.index(task) for task in await self._session.scalars(ready) if task)

    async def edges(self) -> set[tuple[int, int]]:
        rows = select(TaskBlocker.task_id, TaskBlocker.blocker_id).where(TaskBlocker.task_id.in_(self._tasks))
        index = self._tasks.index
        return {(index(task), index(blocker)) for task, blocker in await self._session.execute(rows)}

    async def versions_are_told(self) -> bool:
        """Whether each version of each task has its event, from the one after the first."""
        rows = select(Event.task_id, Event.task_version).where(Event.task_id.in_(self._tasks))
        told = Counter(task for task, _ in await self._session.execute(rows))
        tasks = await self._session.execute(select(Task.id, Task.version).where(Task.id.in_(self._tasks)))
        return all(told[task] == version - 1 for task, version in tasks)


@settings(
    max_examples=25,
    deadline=None,
    # The first change that goes wrong is told; to look for a shorter way to it takes minutes.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(made=st.lists(changes, min_size=30, max_size=40))
async def test_what_is_ready_refused_and_told_follows_from_the_whole_graph(
    serving: Serving, session: AsyncSession, user: User, made: list[Change]
) -> None:
    tasks = [(await create_task(session, owner=user)).id for _ in range(SIZE)]
    system, oracle = System(serving, session, user, tasks), Oracle()

    for change in made:
        assert (await system.apply(change), change) == (oracle.apply(change), change)
        assert await system.listed(ready=True) == oracle.ready()

    assert await system.listed(ready=False) == set(oracle.status) - oracle.ready()
    assert await system.edges() == oracle.edges
    assert await system.told() == oracle.told
    assert await system.versions_are_told()
