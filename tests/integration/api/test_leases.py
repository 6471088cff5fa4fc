"""Claims with leases: one holder, tokens that only rise, and a task that comes back when its holder is gone."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.permissions import Actor
from app.database import Database
from app.db.transaction import Transaction
from app.models import (
    Event,
    EventType,
    Job,
    JobName,
    JobState,
    Task,
    TaskPriority,
    TaskStatus,
    User,
    UserTaskAssociation,
)
from app.schemas.task import TaskClaimNext
from app.services import ClaimService, LeaseService
from app.services.job_service import Postponed, perform
from tests.builders.tasks import create_task
from tests.builders.users import create_user
from tests.conftest import ClientAs, RunningSystem
from tests.utils.serving import Serving
from tests.utils.test_utils import PATIENCE, SHORTER_THAN_A_WAIT, events_of, problem, wait_until_async

MINUTE = {"lease_seconds": 60}
SECONDS = timedelta(seconds=1)


async def run_out(session: AsyncSession, task: Task) -> None:
    """As if its time had passed."""
    over = func.now() - timedelta(seconds=1)
    await session.execute(update(Task).where(Task.id == task.id).values(lease_expires_at=over))
    await session.commit()


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_a_claim_for_a_time_gives_its_holder_a_token_and_an_end(
    signed_in: httpx2.AsyncClient, signed_in_other: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)

    claimed = (await signed_in_other.post(f"/tasks/{task.id}/claim", json=MINUTE)).json()

    assert claimed["lease"]["token"] == 1
    left = moment(claimed["lease"]["expires_at"]) - datetime.now(UTC)
    assert 50 * SECONDS < left <= 61 * SECONDS
    assert (await signed_in_other.get(f"/tasks/{task.id}")).json()["lease"] == claimed["lease"]
    assert (await signed_in_other.get("/tasks")).json()[0]["lease"] == claimed["lease"]
    assert (await signed_in.get(f"/tasks/{task.id}")).json()["lease"] is None
    [job] = await session.scalars(select(Job).where(Job.name == JobName.EXPIRE_LEASE))
    assert (job.arguments, job.run_after) == (
        {"task_id": str(task.id), "token": 1},
        moment(claimed["lease"]["expires_at"]),
    )


async def test_a_claim_for_good_has_a_token_and_no_end(
    signed_in_other: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)

    claimed = (await signed_in_other.post(f"/tasks/{task.id}/claim")).json()

    assert claimed["lease"] == {"token": 1, "expires_at": None}
    assert problem(await signed_in_other.post(f"/tasks/{task.id}/lease"), 409)["code"] == "no_lease"
    bounded = (await signed_in_other.post(f"/tasks/{task.id}/lease", json=MINUTE)).json()
    assert bounded["lease"]["expires_at"] is not None
    assert len(list(await session.scalars(select(Job).where(Job.name == JobName.EXPIRE_LEASE)))) == 1


async def test_claiming_again_gives_the_same_lease(
    signed_in_other: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)

    first = (await signed_in_other.post(f"/tasks/{task.id}/claim", json=MINUTE)).json()
    again = (await signed_in_other.post(f"/tasks/{task.id}/claim", json={"lease_seconds": 3600})).json()

    assert again == first
    assert len(await events_of(session, task)) == 1


async def test_renewing_moves_the_end_and_tells_nobody(
    signed_in_other: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    claimed = (await signed_in_other.post(f"/tasks/{task.id}/claim", json=MINUTE)).json()
    token = {"Hive-Lease-Token": "1"}

    longer = (await signed_in_other.post(f"/tasks/{task.id}/lease", json={"lease_seconds": 600}, headers=token)).json()
    as_before = (await signed_in_other.post(f"/tasks/{task.id}/lease", headers=token)).json()

    assert moment(longer["lease"]["expires_at"]) - moment(claimed["lease"]["expires_at"]) > 500 * SECONDS
    assert moment(as_before["lease"]["expires_at"]) >= moment(longer["lease"]["expires_at"])
    assert (as_before["version"], as_before["lease"]["token"]) == (claimed["version"], 1)
    assert len(await events_of(session, task)) == 1


async def test_a_lease_that_is_renewed_for_a_shorter_time_ends_then(
    signed_in_other: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    await signed_in_other.post(f"/tasks/{task.id}/claim", json={"lease_seconds": 86_400})

    shorter = (await signed_in_other.post(f"/tasks/{task.id}/lease", json={"lease_seconds": 30})).json()

    jobs = (await session.scalars(select(Job).where(Job.name == JobName.EXPIRE_LEASE).order_by(Job.run_after))).all()
    assert jobs[0].run_after == moment(shorter["lease"]["expires_at"])


@pytest.mark.parametrize("seconds", [29, 86_401, -1, "60", 60.5, True])
async def test_leases_last_between_half_a_minute_and_a_day(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, seconds: Any
) -> None:
    task = await create_task(session, owner=user)

    for path in ("claim", "lease"):
        answer = await signed_in.post(f"/tasks/{task.id}/{path}", json={"lease_seconds": seconds})
        assert problem(answer, 422)["errors"][0]["pointer"] == "/lease_seconds"


HOLDERS_WRITES: list[tuple[str, str, Any]] = [
    ("PUT", "/status", {"status": "completed"}),
    ("PUT", "/status", {"status": "available"}),
    ("DELETE", "/assign", None),
    ("POST", "/lease", MINUTE),
    ("POST", "/lease", None),
    ("POST", "/claim", MINUTE),
    ("PUT", "/blockers/{blocker}", None),
]


@pytest.mark.parametrize(("method", "path", "body"), HOLDERS_WRITES)
@pytest.mark.parametrize("fate", ["run out", "taken by another", "given back and taken again", "given up"])
async def test_what_a_lost_lease_wants_changes_nothing(
    signed_in: httpx2.AsyncClient,
    signed_in_other: httpx2.AsyncClient,
    session: AsyncSession,
    user: User,
    method: str,
    path: str,
    body: Any,
    fate: str,
) -> None:
    """A holder that was frozen, and wakes up with its old token."""
    task = await create_task(session, owner=user)
    await signed_in_other.post(f"/tasks/{task.id}/claim", json=MINUTE)
    if fate in {"run out", "taken by another"}:
        await run_out(session, task)
    if fate == "taken by another":
        assert (await signed_in.post(f"/tasks/{task.id}/claim", json=MINUTE)).json()["lease"]["token"] == 2
    if fate in {"given back and taken again", "given up"}:
        await signed_in_other.delete(f"/tasks/{task.id}/assign")
    if fate == "given back and taken again":
        await signed_in_other.post(f"/tasks/{task.id}/claim", json=MINUTE)
    before = (await signed_in.get(f"/tasks/{task.id}")).json()

    blocker = await create_task(session, owner=user)
    path = path.format(blocker=blocker.id)
    answer = await signed_in_other.request(
        method, f"/tasks/{task.id}{path}", json=body, headers={"Hive-Lease-Token": "1"}
    )

    assert problem(answer, 409)["code"] == "lease_lost"
    assert (await signed_in.get(f"/tasks/{task.id}")).json() == before


async def test_with_the_present_token_a_claim_keeps_what_one_has(
    signed_in_other: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    claimed = (await signed_in_other.post(f"/tasks/{task.id}/claim", json=MINUTE)).json()

    again = await signed_in_other.post(f"/tasks/{task.id}/claim", json=MINUTE, headers={"Hive-Lease-Token": "1"})

    assert (again.status_code, again.json()) == (200, claimed)


async def test_with_the_present_token_the_holder_works_on(
    signed_in_other: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    await signed_in_other.post(f"/tasks/{task.id}/claim", json=MINUTE)

    done = await signed_in_other.put(
        f"/tasks/{task.id}/status", json={"status": "completed"}, headers={"Hive-Lease-Token": "1"}
    )

    assert (done.json()["status"], done.json()["lease"]) == ("completed", None)
    row = await session.get_one(Task, task.id, populate_existing=True)
    assert (row.lease_expires_at, row.lease_seconds, row.lease_token) == (None, None, 1)


async def test_a_lease_that_ran_out_is_to_be_had_at_once(
    signed_in: httpx2.AsyncClient,
    signed_in_other: httpx2.AsyncClient,
    session: AsyncSession,
    user: User,
    other_user: User,
) -> None:
    task = await create_task(session, owner=user)
    await signed_in_other.post(f"/tasks/{task.id}/claim", json=MINUTE)
    assert problem(await signed_in.post(f"/tasks/{task.id}/claim"), 409)["code"] == "already_claimed"
    await run_out(session, task)

    claimed = (await signed_in.post(f"/tasks/{task.id}/claim", json=MINUTE)).json()

    assert (claimed["assignee_id"], claimed["lease"]["token"]) == (str(user.id), 2)
    events = await events_of(session, task)
    assert [event.type for event in events] == ["task.assigned", "task.lease_expired", "task.assigned"]
    assert (events[1].actor_type, events[1].data["previous_assignee_id"]) == ("system", str(other_user.id))
    holds = (await session.scalars(select(UserTaskAssociation).order_by(UserTaskAssociation.id))).all()
    assert [(hold.user_id, hold.released_at is None) for hold in holds] == [(other_user.id, False), (user.id, True)]


async def test_the_job_expires_what_ran_out_and_nothing_else(
    signed_in_other: httpx2.AsyncClient, serving: Serving, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    claimed = (await signed_in_other.post(f"/tasks/{task.id}/claim", json=MINUTE)).json()
    service = serving(LeaseService)

    assert await service.expire(task.id, token=1) == moment(claimed["lease"]["expires_at"])
    await run_out(session, task)
    assert await service.expire(task.id, token=0) is None
    await session.refresh(task)
    assert task.status is TaskStatus.IN_PROGRESS
    assert await service.expire(task.id, token=1) is None

    await session.refresh(task)
    assert (task.status, task.assignee_id, task.version) == (TaskStatus.AVAILABLE, None, 3)
    assert [event.type for event in await events_of(session, task)][-1] == "task.lease_expired"


@pytest.mark.committed
async def test_a_job_that_came_too_early_waits_for_its_time(session: AsyncSession, database: Database) -> None:
    later = datetime(2100, 1, 1, tzinfo=UTC)
    job = Job(name=JobName.EXPIRE_LEASE, arguments={}, state=JobState.SENT, run_after=later)
    session.add(job)
    await session.commit()

    async def effect(unit: Transaction) -> None:
        unit.add(Job(name=JobName.NOTIFY, arguments={}))
        await unit.flush()
        raise Postponed(later + timedelta(days=1))

    await perform(database, job.id, effect)

    await session.refresh(job)
    assert await session.scalar(select(func.count()).select_from(Job)) == 1
    assert (job.state, job.attempts, job.run_after) == (JobState.WAITING, 0, later + timedelta(days=1))


@pytest.mark.committed
@pytest.mark.usefixtures("running_system", "running_worker")
async def test_a_dead_holders_task_comes_back_and_a_renewed_one_stays(
    client_as: ClientAs, session: AsyncSession, user: User, other_user: User
) -> None:
    """The jobs of both come at once, and only one of the leases has run out. That is done by hand: none is so short."""
    lost, kept = [await create_task(session, owner=user) for _ in range(2)]
    holder = await client_as(other_user)
    for task in (lost, kept):
        await holder.post(f"/tasks/{task.id}/claim", json=MINUTE)
    await holder.post(f"/tasks/{kept.id}/lease")
    ends = datetime.now(UTC)
    await session.execute(update(Task).where(Task.id == lost.id).values(lease_expires_at=ends))
    await session.execute(update(Job).where(Job.name == JobName.EXPIRE_LEASE).values(run_after=ends))
    await session.commit()

    async def is_back() -> bool:
        await session.commit()
        row = await session.get_one(Task, lost.id, populate_existing=True)
        return row.status is TaskStatus.AVAILABLE

    await wait_until_async(is_back, what="the task to come back")
    [expired] = await session.scalars(select(Event).where(Event.type == EventType.TASK_LEASE_EXPIRED))
    assert expired.task_id == lost.id
    assert expired.created_at >= ends
    assert (await session.get_one(Task, kept.id, populate_existing=True)).assignee_id == other_user.id


async def test_the_next_task_is_the_most_urgent_then_the_soonest_then_the_oldest(
    signed_in_other: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    now = datetime.now(UTC)
    made = [
        await create_task(
            session, owner=user, title=title, priority=priority, due_at=due, created_at=now + age * SECONDS
        )
        for title, priority, due, age in [
            ("fifth", TaskPriority.LOW, now, 0),
            ("fourth", TaskPriority.HIGH, None, 2),
            ("third", TaskPriority.HIGH, None, 1),
            ("second", TaskPriority.HIGH, now + 5 * SECONDS, 3),
            ("first", TaskPriority.URGENT, None, 4),
        ]
    ]
    await create_task(session, owner=user, title="a draft", status=TaskStatus.DRAFT, priority=TaskPriority.URGENT)
    await create_task(session, owner=user, title="taken", status=TaskStatus.IN_PROGRESS, priority=TaskPriority.URGENT)

    claimed = [(await signed_in_other.post("/tasks/claim-next", json=MINUTE)).json() for _ in made]

    assert [task["title"] for task in claimed] == ["first", "second", "third", "fourth", "fifth"]
    assert all(task["lease"]["expires_at"] for task in claimed)
    none = await signed_in_other.post("/tasks/claim-next")
    assert (none.status_code, none.content) == (204, b"")


async def test_the_next_task_may_be_narrowed(
    signed_in_other: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    await create_task(session, owner=user, title="Water the orchids", category="garden", priority=TaskPriority.LOW)
    await create_task(session, owner=user, title="Mend the roof", category="house", priority=TaskPriority.URGENT)

    async def claim(**wanted: Any) -> httpx2.Response:
        return await signed_in_other.post("/tasks/claim-next", json=wanted)

    assert (await claim(category=["cellar"])).status_code == 204
    assert (await claim(q="orchids", priority=["urgent"])).status_code == 204
    assert (await claim(category=["garden", "cellar"], priority=["low"], q="orchids")).json()["category"] == "garden"
    assert problem(await claim(surprise=1), 422)


async def test_an_expired_lease_is_among_the_next(
    signed_in: httpx2.AsyncClient, signed_in_other: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    await signed_in_other.post(f"/tasks/{task.id}/claim", json=MINUTE)
    assert (await signed_in.post("/tasks/claim-next")).status_code == 204
    await run_out(session, task)

    claimed = (await signed_in.post("/tasks/claim-next")).json()

    assert (claimed["id"], claimed["lease"]["token"]) == (str(task.id), 2)


async def test_the_next_task_under_a_key_is_taken_once(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    key = {"Idempotency-Key": "one-task"}
    none = await signed_in.post("/tasks/claim-next", headers=key)
    for _ in range(2):
        await create_task(session, owner=user)

    first = await signed_in.post("/tasks/claim-next", headers=key)
    again = await signed_in.post("/tasks/claim-next", headers=key)

    assert (none.status_code, first.status_code) == (204, 200)
    assert (again.json(), again.headers["Idempotency-Replayed"], again.headers["ETag"]) == (first.json(), "true", '"2"')
    held = await session.scalar(select(func.count()).where(Task.status == TaskStatus.IN_PROGRESS))
    assert held == 1


@pytest.fixture
async def worker(
    running_system: RunningSystem, client_as: ClientAs, other_user: User
) -> AsyncIterator[httpx2.AsyncClient]:
    headers = (await client_as(other_user)).headers
    async with httpx2.AsyncClient(base_url=running_system.address, headers=headers, timeout=PATIENCE) as client:
        yield client


@pytest.mark.committed
async def test_who_waits_gets_the_task_that_becomes_ready(
    worker: httpx2.AsyncClient, client_as: ClientAs, session: AsyncSession, user: User
) -> None:
    owner = await client_as(user)
    draft = await create_task(session, owner=user, status=TaskStatus.DRAFT)
    waiting = asyncio.create_task(worker.post("/tasks/claim-next", json={"wait": 30}))
    quick = await worker.post("/tasks/claim-next", json={"wait": 0.2})
    assert (quick.status_code, waiting.done()) == (204, False)

    await owner.put(f"/tasks/{draft.id}/status", json={"status": "available"})

    async with asyncio.timeout(SHORTER_THAN_A_WAIT):
        answer = await waiting
    assert (answer.status_code, answer.json()["id"]) == (200, str(draft.id))


@pytest.mark.committed
async def test_two_hundred_claimers_of_a_hundred_tasks_get_one_each(
    session: AsyncSession, database: Database, user: User
) -> None:
    """As many at once as there are connections, and none waits a second for another."""
    people = [await create_user(session) for _ in range(200)]
    for _ in range(100):
        await create_task(session, owner=user)
    connections = asyncio.Semaphore(25)

    async def claim(person: User) -> Task | None:
        async with connections, database.unit_of_work() as unit:
            await unit.execute(text("SET LOCAL lock_timeout = '1s'"))
            return await ClaimService(unit).claim_next(Actor.of(person), TaskClaimNext(lease_seconds=60))

    taken = [task for task in await asyncio.gather(*map(claim, people)) if task is not None]

    assert len(taken) == len({task.id for task in taken}) == len({task.assignee_id for task in taken}) == 100
    assert await session.scalar(select(func.count()).select_from(UserTaskAssociation)) == 100
    assert await session.scalar(select(func.count()).where(Event.type == EventType.TASK_ASSIGNED)) == 100
