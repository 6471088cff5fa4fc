"""What one sees, as one value: what is kept by a part of it serves all who have that part in common."""

import ast
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

import app
from app.core.permissions import Audience, Visibility, either_of, is_within
from app.models import EventType

ADA, GRACE, ROOT, LINUS = (UUID(int=number) for number in (1, 2, 3, 4))
PEOPLE = [Visibility(ADA), Visibility(GRACE), Visibility(ROOT, is_admin=True)]
APP = Path(app.__file__).parent
# That accounts are admins is their own concern; what an admin may do and see is for `permissions.py` to say.
ABOUT_ACCOUNTS = {
    "core/auth.py",
    "core/permissions.py",
    "services/account_emptying.py",
    "services/account_endings.py",
    "services/account_locks.py",
    "services/registration.py",
    "services/user_admin.py",
    "services/user_service.py",
    "services/whoami_service.py",
    # It's told of accounts that have been promoted or demoted.
    "websockets/connection_manager.py",
}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, None, None),
        ([ADA], None, None),
        (None, [ADA], None),
        ([ADA], [ADA], [ADA]),
        ([ADA], [GRACE], [ADA, GRACE]),
    ],
    ids=["for all", "published", "withdrawn", "edited", "handed over"],
)
def test_change_is_told_to_those_who_saw_the_task_before_or_after(
    before: Audience, after: Audience, expected: Audience
) -> None:
    assert either_of(before, after) == expected


@pytest.mark.parametrize("visibility", PEOPLE, ids=["ada", "grace", "root"])
@pytest.mark.parametrize("audience", [None, [], [LINUS]], ids=["everybody", "admins", "somebody else"])
@pytest.mark.parametrize("kind", EventType)
def test_group_reads_what_concerns_nobody_in_it(visibility: Visibility, audience: Audience, kind: EventType) -> None:
    assert visibility.reads(kind, audience) == visibility.group.reads(kind, audience)


def test_group_is_nobody_in_person() -> None:
    assert {each.group for each in PEOPLE} == {each.group.group for each in PEOPLE}
    for visibility in PEOPLE:
        assert visibility.reads(EventType.NOTIFICATION_CREATED, [visibility.user_id])
        assert not visibility.group.reads(EventType.NOTIFICATION_CREATED, [visibility.user_id])


@pytest.mark.parametrize(
    ("audience", "wider", "expected"),
    [
        (None, None, True),
        ([ADA], None, True),
        (None, [ADA], False),
        ([ADA], [ADA], True),
        ([ADA], [ADA, GRACE], True),
        ([ADA, GRACE], [ADA], False),
        ([ADA], [GRACE], False),
    ],
)
def test_audience_is_within_another(audience: Audience, wider: Audience, *, expected: bool) -> None:
    assert is_within(audience, wider) is expected


def places_that_ask() -> Iterator[str]:
    for path in APP.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "is_admin":
                yield path.relative_to(APP).as_posix()


def test_only_permissions_say_what_admins_see() -> None:
    assert set(places_that_ask()) == ABOUT_ACCOUNTS
