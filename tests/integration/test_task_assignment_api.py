"""The holder of a task, over HTTP: assigning, claiming, giving back, and the races for it."""

import asyncio
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Job, Task, TaskStatus, User, UserTaskAssociation
from tests.builders.tasks import create_task
from tests.builders.users import create_user
from tests.conftest import ClientAs
from tests.utils.test_utils import events_of, problem


async def holds_of(session: AsyncSession, task: Task) -> list[UserTaskAssociation]:
    by_time = select(UserTaskAssociation).where(UserTaskAssociation.task_id == task.id).order_by(UserTaskAssociation.id)
    return list(await session.scalars(by_time))


@pytest.mark.parametrize("status", [TaskStatus.DRAFT, TaskStatus.AVAILABLE])
async def test_assign_starts_the_task_for_its_new_holder(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User, status: TaskStatus
) -> None:
    task = await create_task(session, owner=user, status=status)

    answer = await signed_in.post(f"/tasks/{task.id}/assign", json={"user_id": str(other_user.id)})

    assert answer.status_code == 200
    shown = answer.json()
    assert (shown["status"], shown["assignee_id"], shown["version"]) == ("in_progress", str(other_user.id), 2)
    await session.refresh(task)
    assert (task.status, task.assignee_id) == (TaskStatus.IN_PROGRESS, other_user.id)
    [hold] = await holds_of(session, task)
    assert (hold.user_id, hold.assigned_by, hold.released_at) == (other_user.id, user.id, None)
    [event] = await events_of(session, task)
    assert (event.type, event.task_version, event.audience) == ("task.assigned", 2, None)
    assert event.data == {
        "assignee_id": str(other_user.id),
        "previous_assignee_id": None,
        "old_status": status,
        "new_status": "in_progress",
    }


async def test_assign_hands_over_from_one_holder_to_the_next(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS)

    answer = await signed_in.post(f"/tasks/{task.id}/assign", json={"user_id": str(other_user.id)})

    assert answer.json()["assignee_id"] == str(other_user.id)
    first, second = await holds_of(session, task)
    assert (first.user_id, second.user_id) == (user.id, other_user.id)
    assert first.released_at == second.assigned_at
    assert second.released_at is None
    [event] = await events_of(session, task)
    assert event.data["previous_assignee_id"] == str(user.id)


async def test_assigning_to_the_holder_again_changes_nothing(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user, assignee=other_user, status=TaskStatus.IN_PROGRESS)

    answer = await signed_in.post(f"/tasks/{task.id}/assign", json={"user_id": str(other_user.id)})

    assert (answer.status_code, answer.json()["version"]) == (200, 1)
    assert await events_of(session, task) == []


async def test_assign_refuses_strangers_to_the_system_and_finished_tasks(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User
) -> None:
    gone = await create_user(session, is_active=False)
    available = await create_task(session, owner=user)
    completed = await create_task(session, owner=user, status=TaskStatus.COMPLETED)

    for nobody in (uuid4(), gone.id):
        answer = await signed_in.post(f"/tasks/{available.id}/assign", json={"user_id": str(nobody)})
        assert problem(answer, 404)["code"] == "user_not_found"
    answer = await signed_in.post(f"/tasks/{completed.id}/assign", json={"user_id": str(other_user.id)})
    refusal = problem(answer, 409)
    assert (refusal["code"], refusal["allowed"]) == ("already_completed", ["in_progress"])


@pytest.mark.parametrize("by", ["owner", "assignee"])
async def test_unassign_makes_the_task_available_again(
    client_as: ClientAs, session: AsyncSession, user: User, other_user: User, by: str
) -> None:
    task = await create_task(session, owner=user, assignee=other_user, status=TaskStatus.IN_PROGRESS)
    client = await client_as(user if by == "owner" else other_user)

    answer = await client.delete(f"/tasks/{task.id}/assign")

    assert (answer.json()["status"], answer.json()["assignee_id"]) == ("available", None)
    [hold] = await holds_of(session, task)
    assert hold.released_at is not None
    [event] = await events_of(session, task)
    assert (event.type, event.data["previous_assignee_id"]) == ("task.unassigned", str(other_user.id))
    again = await client.delete(f"/tasks/{task.id}/assign")
    # Who held it a moment ago is a stranger to it now.
    expected = {"owner": (409, "not_assigned"), "assignee": (403, "forbidden")}[by]
    assert (again.status_code, again.json()["code"]) == expected


async def test_claim_takes_an_available_task(
    signed_in_other: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user)

    answer = await signed_in_other.post(f"/tasks/{task.id}/claim")

    assert answer.status_code == 200
    assert (answer.json()["assignee_id"], answer.json()["status"]) == (str(other_user.id), "in_progress")
    assert answer.json()["updated_at"] >= answer.json()["created_at"]
    [hold] = await holds_of(session, task)
    assert (hold.user_id, hold.assigned_by) == (other_user.id, other_user.id)
    [event] = await events_of(session, task)
    assert (event.type, event.actor_id, event.task_version) == ("task.assigned", other_user.id, 2)
    again = await signed_in_other.post(f"/tasks/{task.id}/claim")
    assert (again.status_code, again.json()) == (200, answer.json())
    assert len(await events_of(session, task)) == 1


async def test_claim_names_the_holder_or_the_state_that_is_in_the_way(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User
) -> None:
    taken = await create_task(session, owner=user, assignee=other_user, status=TaskStatus.IN_PROGRESS)
    draft = await create_task(session, owner=user, status=TaskStatus.DRAFT)

    refusal = problem(await signed_in.post(f"/tasks/{taken.id}/claim"), 409)
    assert (refusal["code"], refusal["holder"]) == ("already_claimed", str(other_user.id))
    refusal = problem(await signed_in.post(f"/tasks/{draft.id}/claim"), 409)
    assert (refusal["code"], refusal["current"], refusal["allowed"]) == ("not_available", "draft", ["available"])


@pytest.mark.committed
async def test_of_many_claimers_at_once_exactly_one_wins(
    client_as: ClientAs, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    claimers = [await create_user(session) for _ in range(20)]
    clients = [await client_as(claimer) for claimer in claimers]

    answers = await asyncio.gather(*(client.post(f"/tasks/{task.id}/claim") for client in clients))

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 19
    await session.refresh(task)
    winner = next(answer.json() for answer in answers if answer.status_code == 200)
    assert winner["assignee_id"] == str(task.assignee_id)
    assert {a.json()["holder"] for a in answers if a.status_code == 409} == {str(task.assignee_id)}
    assert task.version == 2
    assert len(await holds_of(session, task)) == 1
    assert len(await events_of(session, task)) == 1


@pytest.mark.committed
async def test_steps_at_once_are_taken_once(client_as: ClientAs, session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS)
    client = await client_as(user)

    answers = await asyncio.gather(
        *(client.put(f"/tasks/{task.id}/status", json={"status": "completed"}) for _ in range(10))
    )

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 9
    await session.refresh(task)
    assert (task.status, task.version) == (TaskStatus.COMPLETED, 2)
    assert len(list(await session.scalars(select(Job)))) == 1


@pytest.mark.committed
async def test_edits_of_different_fields_at_once_all_stay(
    client_as: ClientAs, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    client = await client_as(user)
    changes = [{"title": "New"}, {"description": "Long"}, {"category": "garden"}, {"priority": "low"}]

    answers = await asyncio.gather(*(client.patch(f"/tasks/{task.id}", json=change) for change in changes))

    assert {answer.status_code for answer in answers} == {200}
    await session.refresh(task)
    assert (task.title, task.description, task.category, task.priority) == ("New", "Long", "garden", "low")
    assert [event.task_version for event in await events_of(session, task)] == [2, 3, 4, 5]


@pytest.mark.committed
async def test_nobody_who_has_left_ends_up_with_a_task(
    client_as: ClientAs, session: AsyncSession, user: User, other_user: User
) -> None:
    tasks = [await create_task(session, owner=user) for _ in range(8)]
    owner, leaver = await client_as(user), await client_as(other_user)

    answers = await asyncio.gather(
        *(owner.post(f"/tasks/{task.id}/assign", json={"user_id": str(other_user.id)}) for task in tasks[:4]),
        *(leaver.post(f"/tasks/{task.id}/claim") for task in tasks[4:]),
        leaver.delete("/users/me"),
    )

    assert {answer.status_code for answer in answers} <= {200, 401, 404}
    held = await session.scalars(select(Task).where(Task.assignee_id == other_user.id))
    assert held.all() == []


async def test_completing_asks_for_the_impact_score_of_the_holder(
    client_as: ClientAs, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user, assignee=other_user, status=TaskStatus.IN_PROGRESS, impact_points=5)
    client = await client_as(other_user)

    answer = await client.put(f"/tasks/{task.id}/status", json={"status": "completed"})

    assert answer.json()["completed_at"] is not None
    [job, notice] = await session.scalars(select(Job).order_by(Job.id))
    assert notice.name == "notify"
    assert (job.name, job.arguments, job.state) == (
        "recompute_impact_score",
        {"user_id": str(other_user.id)},
        "waiting",
    )
    [event] = await events_of(session, task)
    assert (event.data["old_status"], event.data["new_status"]) == ("in_progress", "completed")
