"""What must hold of any task, whatever the rules say of this one: looked at without them."""

from collections.abc import Sequence

from app.models import EventType
from tests.model.nouns import IN_PROGRESS, Event, Json
from tests.model.rules import NEXT


def check_holders(rows: dict[str, Json]) -> None:
    """A task in progress has one holder, who is the same in its row and in the record of its holders."""
    for name, row in rows.items():
        held_by = [row["holder"]] if row["status"] == IN_PROGRESS else []
        assert (name, row["held_by"]) == (name, held_by)


def check_progress(before: dict[str, Json], after: dict[str, Json], events: Sequence[Event]) -> None:
    """Each change of a task has the next version and one event, and what is not told of has not changed."""
    for name in before.keys() & after.keys():
        old, new = before[name], after[name]
        told = sorted(version for version, event in changes_among(events) if event.task == name)
        assert (name, told) == (name, list(range(old["version"] + 1, new["version"] + 1)))
        assert old["token"] <= new["token"], f"the holds of {name} are counted backwards"
        assert told or _without_lease(old) == _without_lease(new), f"{name} has changed, and nobody was told"


def changes_among(events: Sequence[Event]) -> Sequence[tuple[int, Event]]:
    """The events that change their task, each with its version, which no other event has."""
    for event in events:
        assert (event.version is not None) == EventType(event.type).raises_version, event
    return [(event.version, event) for event in events if event.version is not None]


def check_history(history: Sequence[Event], task: Json) -> None:
    """The events of a task, one after the other, end with the task as it is; each step is one that the table has."""
    told: Json = {}
    for expected, (version, event) in enumerate(changes_among(history), start=1):
        assert version == expected
        if "old_status" in event.data:
            assert event.data["old_status"] == told["status"]
            assert event.data["new_status"] in {told["status"], *NEXT[told["status"]], *_by_assignment(event)}
        told |= _changes(event)
    assert told == {each: value for each, value in task.items() if each not in {"id", "lease"}}


def _by_assignment(event: Event) -> set[str]:
    """A draft that is assigned is published and started in one."""
    return {IN_PROGRESS} if event.type == "task.assigned" and event.data["old_status"] == "draft" else set()


def _changes(event: Event) -> Json:
    said = {"version": event.version}
    match event.type:
        case "task.created":
            return {**event.data, **said, "assignee_id": None, "completed_at": False}
        case "task.updated":
            return {**event.data["changed"], **said}
        case "task.status_changed":
            held = {"assignee_id": event.data["assignee_id"], "completed_at": event.data["completed_at"]}
            return {**said, **held, "status": event.data["new_status"]}
        case "task.assigned" | "task.unassigned" | "task.lease_expired":
            return {**said, "assignee_id": event.data.get("assignee_id"), "status": event.data["new_status"]}
    return said


def _without_lease(row: Json) -> Json:
    return {each: value for each, value in row.items() if each not in {"lease", "is_overdue"}}
