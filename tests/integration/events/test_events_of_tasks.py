"""Events about a task: those that change it have its next version, and the others have none."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import httpx2
import pytest
from asyncpg import UniqueViolationError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import HiveError
from app.core.permissions import Actor, audience_of
from app.database import Database
from app.db.transaction import Transaction
from app.events import outbox
from app.events.published import PublishedEvent
from app.events.relay import number_events
from app.events.types import ChatMessage, EventData, TaskUpdated
from app.models import Task, TaskStatus, User
from app.websockets.connection import Connection
from app.websockets.connection_manager import ConnectionManager
from tests.builders.tasks import create_task
from tests.integration.events.test_events_doc import is_event
from tests.utils.serving import Serving
from tests.utils.test_utils import events_of

EDIT = TaskUpdated(changed={"title": "Roses"})
# Its type changes no task, so of a task it's what a comment would be.
REMARK = ChatMessage(message="Not in the sun")


async def record(transaction: Transaction, event: EventData, *, actor: Actor, task_id: UUID) -> None:
    task = await transaction.get(Task, task_id)
    assert task is not None
    await outbox.record(transaction, event, actor=actor, task=task, audience=audience_of(task))


@pytest.fixture
async def task(session: AsyncSession, serving: Serving, signed_in: httpx2.AsyncClient, user: User) -> Task:
    """A task with a change, a remark, and a change."""
    made = await signed_in.post("/tasks", json={"title": "Orchids", "status": "available"})
    task = await session.get_one(Task, UUID(made.json()["id"]))
    await serving.do(record, REMARK, actor=Actor.of(user), task_id=task.id)
    # It's the version that the client has seen.
    headers = {"If-Match": made.headers["ETag"]}
    assert (await signed_in.patch(f"/tasks/{task.id}", json={"title": "Roses"}, headers=headers)).status_code == 200
    return task


def told(event: Mapping[str, Any]) -> tuple[str, int | None]:
    return event["type"], event["task"]["version"]


async def test_event_without_change_raises_no_version(
    session: AsyncSession, signed_in: httpx2.AsyncClient, task: Task
) -> None:
    events = await events_of(session, task)

    assert [(event.type, event.task_version) for event in events] == [
        ("task.created", 1),
        ("chat.message", None),
        ("task.updated", 2),
    ]
    assert (await signed_in.get(f"/tasks/{task.id}")).headers["ETag"] == '"2"'


async def test_history_has_events_without_change_in_their_place(signed_in: httpx2.AsyncClient, task: Task) -> None:
    whole = await signed_in.get(f"/tasks/{task.id}/history")
    pages, path = [], f"/tasks/{task.id}/history?limit=1"
    while path:
        page = await signed_in.get(path)
        pages += page.json()
        path = page.links["next"]["url"].removeprefix("/api/v1") if "next" in page.links else ""

    assert [told(event) for event in whole.json()] == [("task.updated", 2), ("chat.message", None), ("task.created", 1)]
    assert {event["task"]["id"] for event in whole.json()} == {str(task.id)}
    assert pages == whole.json()


async def test_log_gives_events_without_change_to_readers_of_the_task(
    signed_in: httpx2.AsyncClient, database: Database, log_head: int, task: Task
) -> None:
    await number_events(database, limit=100)

    page = (await signed_in.get(f"/events?after={log_head}&task_id={task.id}")).json()

    assert [told(event) for event in page["events"]] == [
        ("task.created", 1),
        ("chat.message", None),
        ("task.updated", 2),
    ]


async def test_sockets_are_told_of_events_without_change(session: AsyncSession, other_user: User, task: Task) -> None:
    manager, reader = ConnectionManager(), Connection(Actor.of(other_user))
    manager.add(reader)

    manager.deliver(*(PublishedEvent.of(event) for event in await events_of(session, task)))

    received = []
    for _ in range(3):
        message = await reader.next_message()
        assert message is not None
        received.append(told(json.loads(message.text)))
    assert received == [("task.created", 1), ("chat.message", None), ("task.updated", 2)]


async def test_document_has_a_version_for_changes_alone(signed_in: httpx2.AsyncClient, task: Task) -> None:
    history = (await signed_in.get(f"/tasks/{task.id}/history")).json()

    assert all(map(is_event, history))
    without_versions = [event | {"task": event["task"] | {"version": None}} for event in history]
    assert [is_event(event) for event in without_versions] == [False, True, False]


async def test_two_changes_cannot_have_one_version(serving: Serving, user: User, task: Task) -> None:
    # A service that had forgotten to raise the version would do this.
    with pytest.raises(HiveError) as refused:
        await serving.do(record, EDIT, actor=Actor.of(user), task_id=task.id)

    assert isinstance(refused.value.__cause__, UniqueViolationError)
    assert refused.value.__cause__.constraint_name == "uq_events_task_id_task_version"


async def test_drafts_keep_events_without_change_to_themselves(
    session: AsyncSession, serving: Serving, signed_in: httpx2.AsyncClient, user: User, other_user: User
) -> None:
    draft = await create_task(session, owner=user, status=TaskStatus.DRAFT)
    await serving.do(record, REMARK, actor=Actor.of(user), task_id=draft.id)

    [event] = await events_of(session, draft)

    assert (event.audience, event.task_version) == ([user.id], None)
    manager, reader = ConnectionManager(), Connection(Actor.of(other_user))
    manager.add(reader)
    manager.deliver(PublishedEvent.of(event))
    reader.end(1000)
    assert await reader.next_message() is None
