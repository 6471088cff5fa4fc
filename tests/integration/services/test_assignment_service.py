"""The holder of a task, and the history of it: assigning, handing over, claiming, giving back, reopening."""

from collections.abc import Sequence
from uuid import uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.permissions import Actor, PermissionDenied, TaskNotFound
from app.models import Task, TaskStatus, User, UserTaskAssociation
from app.services import AssignmentService, ClaimService, TaskService
from app.services.assignment_service import AlreadyCompleted, NotAssigned, UserNotFound
from app.services.claim_service import AlreadyClaimed, NotAvailable
from tests.builders.tasks import create_task
from tests.builders.users import create_user
from tests.utils.serving import Serving
from tests.utils.test_utils import events_of

AVAILABLE, IN_PROGRESS, COMPLETED = TaskStatus.AVAILABLE, TaskStatus.IN_PROGRESS, TaskStatus.COMPLETED


async def holds_of(session: AsyncSession, task: Task) -> Sequence[UserTaskAssociation]:
    """The holders of the task, in the order in which they began to hold it."""
    # Within the transaction of a test all times are the same; the ids rise.
    statement = (
        select(UserTaskAssociation)
        .where(UserTaskAssociation.task_id == task.id)
        .order_by(UserTaskAssociation.assigned_at, UserTaskAssociation.id)
        .execution_options(populate_existing=True)
    )
    return (await session.scalars(statement)).all()


async def test_assign_begins_a_hold_and_says_by_whom(
    serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user, status=TaskStatus.DRAFT)

    assigned = await serving(AssignmentService).assign(Actor.of(user), task.id, other_user.id)

    assert (assigned.status, assigned.assignee_id, assigned.version) == (IN_PROGRESS, other_user.id, 2)
    [hold] = await holds_of(session, task)
    assert (hold.user_id, hold.assigned_by, hold.released_at) == (other_user.id, user.id, None)
    [event] = await events_of(session, task)
    assert (event.type, event.actor_id, event.audience) == ("task.assigned", user.id, None)
    assert event.data == {
        "assignee_id": str(other_user.id),
        "previous_assignee_id": None,
        "old_status": "draft",
        "new_status": "in_progress",
    }


async def test_handing_over_ends_one_hold_and_begins_another(
    serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user, assignee=user, status=IN_PROGRESS)

    await serving(AssignmentService).assign(Actor.of(user), task.id, other_user.id)

    before, after = await holds_of(session, task)
    assert before.user_id == user.id
    assert before.released_at is not None
    assert before.released_at >= before.assigned_at
    assert (after.user_id, after.released_at) == (other_user.id, None)
    [event] = await events_of(session, task)
    assert event.data["previous_assignee_id"] == str(user.id)


async def test_assigning_to_the_holder_changes_nothing(
    serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user, assignee=other_user, status=IN_PROGRESS)

    same = await serving(AssignmentService).assign(Actor.of(user), task.id, other_user.id)

    assert same.version == 1
    assert len(await holds_of(session, task)) == 1
    assert await events_of(session, task) == []


async def test_nobody_is_assigned_to_a_completed_task(
    serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user, status=COMPLETED)

    with pytest.raises(AlreadyCompleted) as refused:
        await serving(AssignmentService).assign(Actor.of(user), task.id, other_user.id)

    assert refused.value.extra == {"allowed": (IN_PROGRESS,)}


async def test_only_who_has_an_account_can_be_assigned(serving: Serving, session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user)
    gone = await create_user(session, is_active=False)

    for user_id in (gone.id, uuid4()):
        with pytest.raises(UserNotFound):
            await serving(AssignmentService).assign(Actor.of(user), task.id, user_id)

    await session.refresh(task)
    assert (task.status, task.version) == (AVAILABLE, 1)


async def test_whoever_may_not_assign_learns_nothing_of_accounts(
    serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user)

    for user_id in (user.id, uuid4()):
        with pytest.raises(PermissionDenied):
            await serving(AssignmentService).assign(Actor.of(other_user), task.id, user_id)


async def test_unassign_ends_the_hold(serving: Serving, session: AsyncSession, user: User, other_user: User) -> None:
    task = await create_task(session, owner=user, assignee=other_user, status=IN_PROGRESS)

    released = await serving(AssignmentService).unassign(Actor.of(other_user), task.id)

    assert (released.status, released.assignee_id, released.version) == (AVAILABLE, None, 2)
    [hold] = await holds_of(session, task)
    assert hold.released_at is not None
    [event] = await events_of(session, task)
    assert (event.type, event.actor_id) == ("task.unassigned", other_user.id)


@pytest.mark.parametrize("status", [TaskStatus.DRAFT, AVAILABLE, COMPLETED])
async def test_what_nobody_works_on_cannot_be_taken_back(
    serving: Serving, session: AsyncSession, user: User, status: TaskStatus
) -> None:
    task = await create_task(session, owner=user, status=status)

    with pytest.raises(NotAssigned) as refused:
        await serving(AssignmentService).unassign(Actor.of(user), task.id)

    assert refused.value.extra == {"current": status}


async def test_claim_makes_the_actor_the_holder(
    serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user)

    claimed = await serving(ClaimService).claim(Actor.of(other_user), task.id)

    assert (claimed.status, claimed.assignee_id, claimed.version) == (IN_PROGRESS, other_user.id, 2)
    [hold] = await holds_of(session, task)
    assert (hold.user_id, hold.assigned_by) == (other_user.id, other_user.id)
    [event] = await events_of(session, task)
    assert (event.type, event.actor_id, event.task_version) == ("task.assigned", other_user.id, 2)


async def test_claiming_again_what_one_holds_changes_nothing(
    serving: Serving, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user, assignee=user, status=IN_PROGRESS)

    assert (await serving(ClaimService).claim(Actor.of(user), task.id)).version == 1
    assert await events_of(session, task) == []


async def test_what_somebody_holds_cannot_be_claimed(
    serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user, assignee=user, status=IN_PROGRESS)

    with pytest.raises(AlreadyClaimed) as refused:
        await serving(ClaimService).claim(Actor.of(other_user), task.id)

    assert (refused.value.status_code, refused.value.extra) == (409, {"holder": user.id})


async def test_neither_a_draft_nor_a_completed_task_can_be_claimed(
    serving: Serving, session: AsyncSession, user: User
) -> None:
    for status in (TaskStatus.DRAFT, COMPLETED):
        task = await create_task(session, owner=user, status=status)
        with pytest.raises(NotAvailable) as refused:
            await serving(ClaimService).claim(Actor.of(user), task.id)
        assert refused.value.extra["current"] is status


async def test_a_draft_of_somebody_else_cannot_be_claimed(
    serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user, status=TaskStatus.DRAFT)

    with pytest.raises(TaskNotFound):
        await serving(ClaimService).claim(Actor.of(other_user), task.id)


async def test_completing_ends_the_hold_and_keeps_the_name(
    serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user, assignee=other_user, status=IN_PROGRESS)

    completed = await serving(TaskService).change_status(Actor.of(other_user), task.id, COMPLETED)

    assert completed.assignee_id == other_user.id
    [hold] = await holds_of(session, task)
    assert hold.released_at is not None


async def test_reopening_begins_a_new_hold_for_who_completed_it(
    serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user, assignee=other_user, status=COMPLETED)

    reopened = await serving(TaskService).change_status(Actor.of(user), task.id, IN_PROGRESS)

    assert (reopened.assignee_id, reopened.completed_at) == (other_user.id, None)
    [hold] = await holds_of(session, task)
    assert (hold.user_id, hold.assigned_by, hold.released_at) == (other_user.id, user.id, None)


async def test_reopening_a_task_of_an_ended_account_gives_it_to_who_reopens_it(
    serving: Serving, session: AsyncSession, user: User
) -> None:
    gone = await create_user(session, is_active=False)
    task = await create_task(session, owner=user, assignee=gone, status=COMPLETED)

    reopened = await serving(TaskService).change_status(Actor.of(user), task.id, IN_PROGRESS)

    assert reopened.assignee_id == user.id
    [hold] = await holds_of(session, task)
    assert hold.user_id == user.id
    [event] = await events_of(session, task)
    assert event.data["assignee_id"] == str(user.id)


async def test_giving_a_task_back_by_its_status_ends_the_hold(
    serving: Serving, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user, status=IN_PROGRESS)

    given_back = await serving(TaskService).change_status(Actor.of(user), task.id, AVAILABLE)

    assert given_back.assignee_id is None
    [hold] = await holds_of(session, task)
    assert hold.released_at is not None
