"""The state of the tasks, by the events and by REST: two ways to the same."""

from datetime import datetime
from typing import Any

import httpx2

from app.models import User

Task = dict[str, Any]
TIMES = ("due_at", "completed_at")
# What a client can know of a task by its events alone.
FIELDS = (
    "title",
    "description",
    "status",
    "category",
    "priority",
    "impact_points",
    "due_at",
    "owner_id",
    "assignee_id",
    "completed_at",
    "version",
)


class Fold:
    """The tasks whose events one reader got from the beginning on. It relies on each coming once and in order."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}

    def apply(self, event: dict[str, Any]) -> None:
        if event["task"] is None:
            return
        place, data = event["task"]["id"], event["data"]
        if event["type"] == "task.created":
            self.tasks[place] = {**data, "assignee_id": None, "completed_at": None}
        elif event["type"] == "task.deleted":
            self.tasks.pop(place, None)
            return
        if place in self.tasks:
            self.tasks[place].update(_changes(event["type"], data), version=event["task"]["version"])

    def tasks_of(self, user: User) -> dict[str, Task]:
        """Those that the user has all events of: their own, or an admin's all."""
        return {place: task for place, task in self.tasks.items() if user.is_admin or task["owner_id"] == str(user.id)}


def _changes(event_type: str, data: dict[str, Any]) -> Task:
    match event_type:
        case "task.updated":
            return dict(data["changed"])
        case "task.assigned":
            return {"assignee_id": data["assignee_id"], "status": data["new_status"]}
        case "task.unassigned":
            return {"assignee_id": None, "status": data["new_status"]}
        case "task.status_changed":
            held = {"assignee_id": data["assignee_id"], "completed_at": data["completed_at"]}
            return {**held, "status": data["new_status"]}
    return {}


async def read_tasks(http: httpx2.AsyncClient, **query: str) -> dict[str, Task]:
    """The tasks by REST, all pages of them."""
    found: dict[str, Task] = {}
    answer = await http.get("/tasks", params={"limit": 200, **query})
    while True:
        assert answer.status_code == 200, answer.text
        found.update({task["id"]: task for task in answer.json()})
        if "next" not in answer.links:
            return found
        answer = await http.get(answer.url.join(answer.links["next"]["url"]))


def comparable(tasks: dict[str, Task]) -> dict[str, Task]:
    """The fields that both ways tell, with times as times."""
    return {place: {field: _value(task, field) for field in FIELDS} for place, task in tasks.items()}


def _value(task: Task, field: str) -> Any:
    value = task[field]
    return datetime.fromisoformat(value) if field in TIMES and value else value
