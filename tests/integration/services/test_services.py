"""The services over a session: accounts, tasks, chat, and what follows from a change."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.auth import WrongPassword, prove_password
from app.core.permissions import Actor, PermissionDenied, TaskNotFound
from app.core.security import password_matches
from app.database import Database
from app.db.transaction import WAKES_RELAY, Transaction
from app.limits.sign_ins import Tally
from app.models import EarnedPoints, Event, Job, JobState, Task, TaskPriority, TaskStatus, User, UserTaskAssociation
from app.schemas.auth import UserRegister
from app.schemas.task import TaskCreate, TaskUpdate
from app.schemas.user import UserUpdate
from app.services import AssignmentService, ChatService, ClaimService, TaskService, UserService
from app.services.impact_score import recompute_impact_score
from tests.builders.tasks import create_task
from tests.builders.users import PASSWORD, create_user
from tests.utils.serving import Serving
from tests.utils.test_utils import events_of

AVAILABLE, IN_PROGRESS, COMPLETED = TaskStatus.AVAILABLE, TaskStatus.IN_PROGRESS, TaskStatus.COMPLETED


@asynccontextmanager
async def unlimited(_account: str | None) -> AsyncIterator[Tally]:
    """Any number of attempts."""
    yield Tally()


async def test_register_stores_a_hash_that_the_password_fits(serving: Serving) -> None:
    new = UserRegister(email="ada@example.org", password=PASSWORD, display_name="Ada", skills=["analysis"])

    user = await serving(UserService).register(new)

    assert PASSWORD not in user.password_hash
    assert user.password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await password_matches(PASSWORD, user.password_hash)
    assert (user.is_active, user.is_admin, user.impact_score, user.skills) == (True, False, 0, ["analysis"])


async def test_two_accounts_with_one_password_have_different_hashes(serving: Serving) -> None:
    users = serving(UserService)

    one, other = [
        await users.register(UserRegister(email=f"{name}@example.org", password=PASSWORD, display_name=name))
        for name in ("ada", "grace")
    ]

    assert one.password_hash != other.password_hash


async def test_register_makes_an_admin_only_when_told_to(serving: Serving) -> None:
    new = UserRegister(email="root@example.org", password=PASSWORD, display_name="Root")

    assert (await serving(UserService).register(new, is_admin=True)).is_admin


async def test_update_changes_only_what_is_given(serving: Serving, session: AsyncSession) -> None:
    user = await create_user(session, role="Gardener", skills=["orchids"])

    await serving(UserService).update(Actor.of(user), UserUpdate(role=""))

    await session.refresh(user)
    assert (user.role, user.skills) == ("", ["orchids"])


async def test_update_of_the_password_replaces_its_hash(
    database: Database, serving: Serving, session: AsyncSession, user: User
) -> None:
    new = "a longer password than before"

    proof = await prove_password(database, Actor.of(user), PASSWORD, new=new, attempt=unlimited)
    await serving(UserService).update(Actor.of(user), UserUpdate(password=new, current_password=PASSWORD), proof)

    await session.refresh(user)
    assert await password_matches(new, user.password_hash)
    assert not await password_matches(PASSWORD, user.password_hash)


@pytest.mark.parametrize("change", [{"password": "a longer password"}, {"email": "new@example.org"}])
async def test_update_of_credentials_with_a_wrong_password_changes_nothing(
    database: Database, serving: Serving, session: AsyncSession, user: User, change: dict[str, str]
) -> None:
    before = (user.email, user.password_hash)
    changes = UserUpdate.model_validate(change | {"current_password": "wrong", "role": "Gardener"})

    with pytest.raises(WrongPassword):
        await prove_password(
            database, Actor.of(user), changes.current_password, new=changes.new_password, attempt=unlimited
        )
    with pytest.raises(WrongPassword):
        await serving(UserService).update(Actor.of(user), changes)

    await session.refresh(user)
    assert (user.email, user.password_hash, user.role) == (*before, "")


async def test_a_proof_is_worth_nothing_once_the_password_is_another(
    database: Database, serving: Serving, session: AsyncSession, user: User
) -> None:
    changes = UserUpdate(password="the later password", current_password=PASSWORD)
    late = await prove_password(database, Actor.of(user), PASSWORD, new=changes.new_password, attempt=unlimited)
    first = await prove_password(database, Actor.of(user), PASSWORD, new="the first password", attempt=unlimited)
    await serving(UserService).update(Actor.of(user), changes, first)

    with pytest.raises(WrongPassword):
        await serving(UserService).update(Actor.of(user), changes, late)

    await session.refresh(user)
    assert await password_matches("the first password", user.password_hash)


async def test_deactivate_releases_what_is_held_and_tells_of_it(
    serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    held = [await create_task(session, owner=other_user, assignee=user, status=IN_PROGRESS) for _ in range(2)]
    done = await create_task(session, owner=other_user, assignee=user, status=COMPLETED)
    others = await create_task(session, owner=user, assignee=other_user, status=IN_PROGRESS)

    await serving(UserService).deactivate(Actor.of(user))

    await session.refresh(user)
    assert not user.is_active
    for task in held:
        await session.refresh(task)
        assert (task.status, task.assignee_id, task.version) == (AVAILABLE, None, 2)
        hold = await session.scalar(select(UserTaskAssociation).where(UserTaskAssociation.task_id == task.id))
        assert hold is not None
        assert hold.released_at is not None
        [event] = await events_of(session, task)
        assert (event.type, event.actor_id) == ("task.unassigned", user.id)
        assert event.data == {
            "previous_assignee_id": str(user.id),
            "old_status": "in_progress",
            "new_status": "available",
        }
    for task, holder in ((done, user), (others, other_user)):
        await session.refresh(task)
        assert (task.assignee_id, task.version) == (holder.id, 1)


async def test_deactivate_tells_the_own_processes_and_nobody_else(
    serving: Serving, session: AsyncSession, user: User
) -> None:
    await serving(UserService).deactivate(Actor.of(user))

    event = (await session.scalars(select(Event))).one()
    assert (event.type, event.actor_id, event.audience) == ("account.deactivated", user.id, [])


async def test_deactivate_is_one_with_the_transaction_around_it(
    session: AsyncSession, database: Database, user: User
) -> None:
    task = await create_task(session, owner=user, status=IN_PROGRESS)

    with pytest.raises(LookupError):
        async with database.unit_of_work() as work:
            await UserService(work).deactivate(Actor.of(user))
            raise LookupError

    await session.refresh(user)
    await session.refresh(task)
    assert (user.is_active, task.status, task.version) == (True, IN_PROGRESS, 1)
    assert await session.scalar(select(func.count()).select_from(Event)) == 0


async def test_the_impact_score_is_the_sum_of_the_completed_tasks_that_one_holds(
    serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    for status, points in ((COMPLETED, 5), (COMPLETED, 8), (IN_PROGRESS, 100), (AVAILABLE, 1_000)):
        await create_task(session, owner=other_user, assignee=user, status=status, impact_points=points)
    await create_task(session, owner=user, assignee=other_user, status=COMPLETED, impact_points=10_000)

    assert await serving.do(recompute_impact_score, user.id) == 13
    # Computed anew and not added to: a second time changes nothing.
    assert await serving.do(recompute_impact_score, user.id) == 13
    await session.refresh(user)
    assert user.impact_score == 13


async def test_the_impact_score_of_who_completed_nothing_is_zero(serving: Serving, session: AsyncSession) -> None:
    user = await create_user(session, impact_score=7)

    assert await serving.do(recompute_impact_score, user.id) == 0


async def test_nobody_has_no_impact_score(serving: Serving) -> None:
    assert await serving.do(recompute_impact_score, uuid4()) is None


async def test_create_stores_the_task_with_its_event(serving: Serving, session: AsyncSession, user: User) -> None:
    due = datetime(2030, 1, 1, tzinfo=UTC)
    new = TaskCreate(title="Orchids", priority=TaskPriority.HIGH, impact_points=3, due_at=due)

    task = await serving(TaskService).create(Actor.of(user), new)

    assert (task.status, task.owner_id, task.assignee_id, task.version) == (TaskStatus.DRAFT, user.id, None, 1)
    assert task.created_at == task.updated_at
    [event] = await events_of(session, task)
    assert (event.type, event.task_version, event.audience) == ("task.created", 1, [user.id])
    assert event.data == {
        "title": "Orchids",
        "description": "",
        "status": "draft",
        "category": "general",
        "priority": "high",
        "impact_points": 3,
        "due_at": "2030-01-01T00:00:00Z",
        "owner_id": str(user.id),
    }


async def test_an_available_task_is_told_to_everybody(serving: Serving, session: AsyncSession, user: User) -> None:
    task = await serving(TaskService).create(Actor.of(user), TaskCreate(title="Orchids", status=TaskStatus.AVAILABLE))

    [event] = await events_of(session, task)
    assert event.audience is None


async def test_an_admins_update_of_a_draft_is_its_owners_to_know(
    serving: Serving, session: AsyncSession, user: User, admin: User
) -> None:
    task = await create_task(session, owner=user, status=TaskStatus.DRAFT)

    await serving(TaskService).update(Actor.of(admin), task.id, TaskUpdate(title="Roses"))

    [event] = await events_of(session, task)
    assert (event.actor_id, event.audience) == (admin.id, [user.id])


async def test_the_versions_of_a_task_rise_by_one_with_each_event(
    serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    tasks, assignments, actor = serving(TaskService), serving(AssignmentService), Actor.of(user)
    task = await tasks.create(actor, TaskCreate(title="Orchids"))

    await tasks.change_status(actor, task.id, AVAILABLE)
    await serving(ClaimService).claim(Actor.of(other_user), task.id)
    await tasks.update(actor, task.id, TaskUpdate(title="Roses", impact_points=2))
    await assignments.assign(actor, task.id, user.id)
    await tasks.change_status(actor, task.id, COMPLETED)
    await tasks.change_status(actor, task.id, IN_PROGRESS)
    await assignments.unassign(actor, task.id)
    await tasks.delete(actor, task.id)

    events = await events_of(session, task)
    assert [event.task_version for event in events] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [event.type.removeprefix("task.") for event in events] == [
        "created",
        "status_changed",
        "assigned",
        "updated",
        "assigned",
        "status_changed",
        "status_changed",
        "unassigned",
        "deleted",
    ]
    assert [event.position for event in events] == sorted(event.position for event in events)


async def test_deleting_takes_the_history_of_holds_along_and_leaves_the_events(
    serving: Serving, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user, status=IN_PROGRESS)

    await serving(TaskService).delete(Actor.of(user), task.id)

    for table, left in ((Task, 0), (UserTaskAssociation, 0), (Event, 1)):
        assert await session.scalar(select(func.count()).select_from(table)) == left


async def test_what_is_refused_writes_no_event(
    serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user)

    with pytest.raises(PermissionDenied):
        await serving(TaskService).update(Actor.of(other_user), task.id, TaskUpdate(title="Mine"))

    assert await events_of(session, task) == []


async def test_a_chat_message_is_an_event_for_everybody_and_nothing_else(
    serving: Serving, session: AsyncSession, user: User
) -> None:
    await serving(ChatService).say(Actor.of(user), "Tea is ready")

    event = (await session.scalars(select(Event))).one()
    assert (event.type, event.actor_id, event.data) == ("chat.message", user.id, {"message": "Tea is ready"})
    assert (event.task_id, event.task_version, event.audience, event.seq) == (None, None, None, None)
    assert await asked_for(session) == []


async def test_whoever_writes_an_event_has_the_relay_woken(database: Database, user: User) -> None:
    async with database.unit_of_work() as transaction:
        assert WAKES_RELAY not in transaction.info

        await ChatService(transaction).say(Actor.of(user), "Tea is ready")

        assert transaction.info[WAKES_RELAY]


async def asked_for(session: AsyncSession | Transaction) -> Sequence[tuple[str, dict[str, object]]]:
    """The jobs that were asked for."""
    jobs = list(await session.scalars(select(Job).order_by(Job.id)))
    assert all((job.state, job.sends, job.attempts) == (JobState.WAITING, 0, 0) for job in jobs)
    return [(job.name, job.arguments) for job in jobs]


def score_of(user_id: UUID) -> tuple[str, dict[str, object]]:
    return ("recompute_impact_score", {"user_id": str(user_id)})


@pytest.mark.parametrize(("before", "after"), [(IN_PROGRESS, COMPLETED), (COMPLETED, IN_PROGRESS)])
async def test_a_step_over_completion_asks_for_the_holders_score(
    serving: Serving, session: AsyncSession, user: User, other_user: User, before: TaskStatus, after: TaskStatus
) -> None:
    task = await create_task(session, owner=user, assignee=other_user, status=before)

    await serving(TaskService).change_status(Actor.of(user), task.id, after)

    assert score_of(other_user.id) in await asked_for(session)


async def test_reopening_a_task_of_an_ended_account_asks_for_the_score_that_it_leaves(
    serving: Serving, session: AsyncSession, user: User
) -> None:
    gone = await create_user(session, is_active=False)
    task = await create_task(session, owner=user, assignee=gone, status=COMPLETED)

    await serving(TaskService).change_status(Actor.of(user), task.id, IN_PROGRESS)

    assert score_of(gone.id) in await asked_for(session)


async def test_other_points_of_a_completed_task_ask_for_the_score(
    serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user, assignee=other_user, status=COMPLETED)

    await serving(TaskService).update(Actor.of(user), task.id, TaskUpdate(impact_points=5))

    assert await asked_for(session) == [score_of(other_user.id)]


async def test_a_deleted_task_leaves_its_points_to_who_completed_it(
    serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(
        session, owner=user, assignee=other_user, status=COMPLETED, impact_points=5, category="greenhouse"
    )
    await create_task(session, owner=user, assignee=other_user, status=COMPLETED, impact_points=3)

    await serving(TaskService).delete(Actor.of(user), task.id)

    # Nothing changes, so there is nothing to compute.
    assert await asked_for(session) == []
    assert await serving.do(recompute_impact_score, other_user.id) == 8
    assert await serving.do(recompute_impact_score, user.id) == 0
    kept = (await session.scalars(select(EarnedPoints))).one()
    assert (kept.user_id, kept.task_id, kept.category, kept.points) == (other_user.id, task.id, "greenhouse", 5)
    assert kept.completed_at == task.completed_at


async def test_a_second_deletion_earns_nothing(serving: Serving, session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user, status=COMPLETED, impact_points=5)
    await serving(TaskService).delete(Actor.of(user), task.id)

    with pytest.raises(TaskNotFound):
        await serving(TaskService).delete(Actor.of(user), task.id)

    assert await serving.do(recompute_impact_score, user.id) == 5


@pytest.mark.parametrize("status", [TaskStatus.DRAFT, AVAILABLE, IN_PROGRESS])
async def test_a_task_that_is_deleted_unfinished_earns_nothing(
    serving: Serving, session: AsyncSession, user: User, status: TaskStatus
) -> None:
    task = await create_task(session, owner=user, status=status, impact_points=5)

    await serving(TaskService).delete(Actor.of(user), task.id)

    assert await serving.do(recompute_impact_score, user.id) == 0
    assert await session.scalar(select(func.count()).select_from(EarnedPoints)) == 0


async def test_a_task_completed_twice_and_deleted_counts_once_for_its_last_holder(
    serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    tasks, assignments, owner = serving(TaskService), serving(AssignmentService), Actor.of(user)
    task = await create_task(session, owner=user, assignee=other_user, status=COMPLETED, impact_points=5)
    await tasks.change_status(owner, task.id, IN_PROGRESS)
    await assignments.assign(owner, task.id, user.id)
    await tasks.change_status(owner, task.id, COMPLETED)
    await tasks.update(owner, task.id, TaskUpdate(impact_points=7))

    await tasks.delete(owner, task.id)

    assert await serving.do(recompute_impact_score, user.id) == 7
    assert await serving.do(recompute_impact_score, other_user.id) == 0


@pytest.mark.parametrize("status", [TaskStatus.DRAFT, AVAILABLE, IN_PROGRESS])
async def test_changes_of_what_is_not_completed_ask_for_nothing(
    serving: Serving, session: AsyncSession, user: User, status: TaskStatus
) -> None:
    tasks, actor = serving(TaskService), Actor.of(user)
    task = await create_task(session, owner=user, status=status)

    await tasks.update(actor, task.id, TaskUpdate(impact_points=5))
    if status is not IN_PROGRESS:
        await tasks.change_status(actor, task.id, AVAILABLE if status is TaskStatus.DRAFT else IN_PROGRESS)
    await serving(AssignmentService).assign(actor, task.id, user.id)
    await tasks.delete(actor, task.id)

    assert await asked_for(session) == []


async def test_other_fields_of_a_completed_task_ask_for_nothing(
    serving: Serving, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user, status=COMPLETED, impact_points=5)

    await serving(TaskService).update(Actor.of(user), task.id, TaskUpdate(title="Roses", impact_points=5))

    assert await asked_for(session) == []


async def test_a_job_is_gone_with_the_change_that_asked_for_it(
    session: AsyncSession, database: Database, user: User
) -> None:
    task = await create_task(session, owner=user, status=IN_PROGRESS)

    with pytest.raises(LookupError):
        async with database.unit_of_work() as work:
            await TaskService(work).change_status(Actor.of(user), task.id, COMPLETED)
            assert len(await asked_for(work)) == 1
            raise LookupError

    assert await asked_for(session) == []
