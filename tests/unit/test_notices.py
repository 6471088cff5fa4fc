"""The people who are notified of an event, and why."""

from uuid import UUID, uuid4

import pytest

from app.core.permissions import SYSTEM
from app.events.notices import MOST_MENTIONS, mentions_in, notices_of, text_with_mentions
from app.events.types import (
    ChatMessage,
    EventData,
    TaskAssigned,
    TaskStatusChanged,
    TaskUnassigned,
    TaskUpdated,
)
from app.models import NotificationKind, Task, TaskStatus

OWNER, HOLDER, EARLIER, ADMIN = (uuid4() for _ in range(4))
AVAILABLE, IN_PROGRESS, COMPLETED, DRAFT = (
    TaskStatus.AVAILABLE,
    TaskStatus.IN_PROGRESS,
    TaskStatus.COMPLETED,
    TaskStatus.DRAFT,
)
Kind = NotificationKind


def assigned(to: UUID, *, before: UUID | None = None) -> TaskAssigned:
    return TaskAssigned(assignee_id=to, previous_assignee_id=before, old_status=AVAILABLE, new_status=IN_PROGRESS)


def step(old: TaskStatus, new: TaskStatus, *, holder: UUID | None, before: UUID | None) -> TaskStatusChanged:
    return TaskStatusChanged(
        old_status=old, new_status=new, assignee_id=holder, previous_assignee_id=before, completed_at=None
    )


HANDED_OVER = assigned(HOLDER, before=EARLIER)
TAKEN_BACK = TaskUnassigned(previous_assignee_id=HOLDER, old_status=IN_PROGRESS, new_status=AVAILABLE)
COMPLETES = step(IN_PROGRESS, COMPLETED, holder=HOLDER, before=HOLDER)
REOPENS = step(COMPLETED, IN_PROGRESS, holder=HOLDER, before=HOLDER)
GIVES_BACK = step(IN_PROGRESS, AVAILABLE, holder=None, before=HOLDER)

CASES = [
    ("the owner assigns", assigned(HOLDER), OWNER, {HOLDER: Kind.ASSIGNED}),
    (
        "the owner hands over",
        assigned(HOLDER, before=EARLIER),
        OWNER,
        {HOLDER: Kind.ASSIGNED, EARLIER: Kind.UNASSIGNED},
    ),
    ("an admin assigns", assigned(HOLDER), ADMIN, {HOLDER: Kind.ASSIGNED}),
    ("somebody claims", assigned(HOLDER), HOLDER, {OWNER: Kind.CLAIMED}),
    ("the owner claims their own", assigned(OWNER), OWNER, {}),
    ("the owner takes it back", TAKEN_BACK, OWNER, {HOLDER: Kind.UNASSIGNED}),
    ("the holder gives it back", TAKEN_BACK, HOLDER, {OWNER: Kind.RELEASED}),
    ("an admin takes it back", TAKEN_BACK, ADMIN, {OWNER: Kind.RELEASED, HOLDER: Kind.UNASSIGNED}),
    ("the holder completes it", COMPLETES, HOLDER, {OWNER: Kind.COMPLETED}),
    ("the owner completes it for the holder", COMPLETES, OWNER, {HOLDER: Kind.COMPLETED}),
    ("the owner reopens it", REOPENS, OWNER, {HOLDER: Kind.REOPENED}),
    ("the holder steps back", GIVES_BACK, HOLDER, {OWNER: Kind.RELEASED}),
    ("somebody starts it", step(AVAILABLE, IN_PROGRESS, holder=HOLDER, before=None), HOLDER, {OWNER: Kind.CLAIMED}),
    ("it's published", step(DRAFT, AVAILABLE, holder=None, before=None), OWNER, {}),
    ("it's handed over", TaskUpdated(changed={"owner_id": str(HOLDER)}), EARLIER, {HOLDER: Kind.HANDED_OVER}),
    ("an admin takes it over", TaskUpdated(changed={"owner_id": str(ADMIN)}), ADMIN, {}),
    ("all of an account are handed over", TaskUpdated(changed={"owner_id": str(HOLDER)}), SYSTEM.id, {}),
    ("it's edited", TaskUpdated(changed={"title": "Roses"}), ADMIN, {}),
]


@pytest.mark.parametrize(
    ("event", "actor", "expected"), [case[1:] for case in CASES], ids=[str(case[0]) for case in CASES]
)
def test_whom_a_change_concerns_is_told_unless_they_did_it(
    event: EventData, actor: UUID, expected: dict[UUID, NotificationKind]
) -> None:
    assert notices_of(event, actor_id=actor, owner_id=OWNER) == expected


def test_a_mention_is_an_id_in_brackets() -> None:
    text = f"<@{HOLDER}> and <@{str(OWNER).upper()}>, not @{ADMIN}, <@nobody> or <@{ADMIN}x>"

    assert mentions_in(text) == {HOLDER, OWNER}


def test_a_text_can_not_name_the_whole_world() -> None:
    text = " ".join(f"<@{uuid4()}>" for _ in range(MOST_MENTIONS * 2))

    assert len(mentions_in(text)) == MOST_MENTIONS


def test_only_what_others_can_read_now_mentions_them() -> None:
    draft = Task(title="Roses", description="<@someone>", status=DRAFT)
    public = Task(title="Roses", description="<@someone>", status=AVAILABLE)
    edit, repricing = TaskUpdated(changed={"description": "…"}), TaskUpdated(changed={"impact_points": 3})
    publish, start = (
        step(DRAFT, AVAILABLE, holder=None, before=None),
        step(AVAILABLE, IN_PROGRESS, holder=HOLDER, before=None),
    )

    assert text_with_mentions(edit, draft) == ""
    assert text_with_mentions(edit, public) == text_with_mentions(publish, public) == "Roses <@someone>"
    assert text_with_mentions(repricing, public) == text_with_mentions(start, public) == ""
    assert text_with_mentions(ChatMessage(message="hello"), None) == "hello"
