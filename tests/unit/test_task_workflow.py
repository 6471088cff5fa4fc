"""The table of transitions, and who may do what, by the rules in Python."""

from uuid import uuid4

import pytest

from app.core.permissions import Actor, Audience, Visibility, audience_of, permissions_on
from app.models import HELD_STATUSES, PERSONAL_TYPES, Task, TaskStatus
from app.services.workflow import TRANSITIONS, InvalidTransition, require_transition
from tests.utils.task_rules import (
    ALLOWED,
    AVAILABLE,
    COMPLETED,
    DRAFT,
    EVERYTHING,
    IN_PROGRESS,
    KINDS,
    MATRIX,
    REFUSED,
    VIEW,
)


def test_the_table_is_the_contracts() -> None:
    assert {(current, wanted) for current in TRANSITIONS for wanted in TRANSITIONS[current]} == ALLOWED


def test_the_table_has_every_state() -> None:
    assert set(TRANSITIONS) == set(TaskStatus)


@pytest.mark.parametrize(("current", "wanted"), REFUSED)
def test_a_step_that_the_table_lacks_is_refused_naming_those_it_has(current: TaskStatus, wanted: TaskStatus) -> None:
    with pytest.raises(InvalidTransition) as refused:
        require_transition(current, wanted)

    error = refused.value
    assert (error.status_code, error.error_code) == (409, "invalid_transition")
    assert error.extra == {"current": current, "allowed": TRANSITIONS[current]}
    assert current in error.detail
    assert wanted in error.detail


PEOPLE = {kind: uuid4() for kind in KINDS}


def task_of(status: TaskStatus) -> Task:
    assignee = PEOPLE["assignee"] if status in HELD_STATUSES else None
    return Task(id=uuid4(), title="Orchids", status=status, owner_id=PEOPLE["owner"], assignee_id=assignee)


def actor_of(kind: str) -> Actor:
    return Actor(PEOPLE[kind], is_admin=kind == "admin")


@pytest.mark.parametrize(("kind", "status"), MATRIX)
def test_what_each_kind_of_person_may_do(kind: str, status: TaskStatus) -> None:
    assert permissions_on(actor_of(kind), task_of(status)) == MATRIX[kind, status]


def test_who_owns_and_holds_a_task_has_the_rights_of_its_owner() -> None:
    task = task_of(IN_PROGRESS)
    task.assignee_id = task.owner_id

    assert permissions_on(actor_of("owner"), task) == EVERYTHING


@pytest.mark.parametrize(
    ("status", "is_private"), [(DRAFT, True), (AVAILABLE, False), (IN_PROGRESS, False), (COMPLETED, False)]
)
def test_who_may_read_of_a_task_may_view_it(status: TaskStatus, is_private: bool) -> None:
    task = task_of(status)
    audience: Audience = audience_of(task)

    assert audience == ([task.owner_id] if is_private else None)
    for kind in PEOPLE:
        actor = actor_of(kind)
        assert actor.visibility.reads("task.updated", audience) == (VIEW in permissions_on(actor, task))


def test_what_is_personal_is_not_for_admins_either() -> None:
    person, admin = uuid4(), Actor(uuid4(), is_admin=True)

    for kind in PERSONAL_TYPES:
        assert Visibility(person).reads(kind, [person])
        assert not admin.visibility.reads(kind, [person])
    assert admin.visibility.reads("task.updated", [person])
