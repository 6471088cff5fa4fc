"""The parts of the services that need no database: conditions of a caller, cursors, holders."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from app.core.etags import PreconditionRequired
from app.core.permissions import Actor
from app.models import Task, TaskPriority, TaskStatus, User
from app.services.assignment_service import UserNotFound
from app.services.pages import CursorCodec, InvalidCursor, Key, Position, scope_of
from app.services.preconditions import UNCONDITIONAL, StaleVersion, precondition_of
from app.services.workflow_steps import _holder_after

NOW = datetime(2030, 1, 1, tzinfo=UTC)
OWNER = Actor(uuid4())


def task_of_version(version: int) -> Task:
    return Task(
        id=uuid4(),
        title="Orchids",
        description="",
        status=TaskStatus.AVAILABLE,
        priority=TaskPriority.MEDIUM,
        category="general",
        owner_id=OWNER.id,
        impact_points=0,
        version=version,
        created_at=NOW,
        updated_at=NOW,
    )


@pytest.mark.parametrize("if_match", [None, "*", '"3"', '"1", "3"'])
def test_a_version_that_was_named_is_changed(if_match: str | None) -> None:
    precondition_of(if_match, is_required=False).require_version(task_of_version(3), OWNER)


def test_another_version_is_refused_with_the_present_state() -> None:
    task = task_of_version(3)

    with pytest.raises(StaleVersion) as refused:
        precondition_of('"2"', is_required=True).require_version(task, OWNER)

    error = refused.value
    assert (error.status_code, error.error_code, error.headers) == (412, "stale_version", {"ETag": '"3"'})
    current: Any = error.extra["current"]
    assert (current["id"], current["version"]) == (str(task.id), 3)


def test_an_account_of_another_version_is_refused_too() -> None:
    user = User(
        id=uuid4(),
        email="ada@example.org",
        display_name="Ada",
        role="",
        skills=[],
        impact_score=0,
        is_active=True,
        is_admin=False,
        mail_notifications=True,
        time_zone="UTC",
        version=7,
        created_at=NOW,
        updated_at=NOW,
    )
    precondition_of('"7"', is_required=True).require_of_user(user)

    with pytest.raises(StaleVersion):
        precondition_of('"6"', is_required=True).require_of_user(user)


def test_a_condition_that_has_to_be_there_is_asked_for() -> None:
    assert precondition_of(None, is_required=False) == UNCONDITIONAL

    with pytest.raises(PreconditionRequired):
        precondition_of(None, is_required=True)


SCOPE = scope_of("tasks", sort="due_at", status=["available"])


@pytest.mark.parametrize("key", [NOW, 3, "Orchids", None])
def test_a_cursor_stands_for_its_place(key: Key) -> None:
    cursors, position = CursorCodec("a key"), Position(key, uuid4())

    assert cursors.decode(cursors.encode(position, scope=SCOPE), scope=SCOPE) == position


def test_a_cursor_is_good_for_one_list_of_one_server_alone() -> None:
    cursors = CursorCodec("a key")
    cursor = cursors.encode(Position(3, uuid4()), scope=SCOPE)

    for other in (scope_of("tasks", sort="due_at", status=[]), scope_of("users", sort="due_at", status=["available"])):
        with pytest.raises(InvalidCursor):
            cursors.decode(cursor, scope=other)
    for changed in (cursor[:-1], f"x{cursor}", "", "."):
        with pytest.raises(InvalidCursor):
            cursors.decode(changed, scope=SCOPE)
    with pytest.raises(InvalidCursor):
        CursorCodec("another key").decode(cursor, scope=SCOPE)


def test_a_step_leads_to_one_holder() -> None:
    ada, grace = Actor(uuid4()), uuid4()
    available, in_progress, completed = TaskStatus.AVAILABLE, TaskStatus.IN_PROGRESS, TaskStatus.COMPLETED

    assert _holder_after(ada, None, in_progress, {ada.id}) == ada.id
    assert _holder_after(ada, grace, in_progress, {ada.id, grace}) == grace
    # The account of the one who completed it has ended.
    assert _holder_after(ada, grace, in_progress, {ada.id}) == ada.id
    assert _holder_after(ada, grace, completed, set()) == grace
    assert _holder_after(ada, grace, available, {grace}) is None
    with pytest.raises(UserNotFound):
        _holder_after(ada, None, in_progress, set())
