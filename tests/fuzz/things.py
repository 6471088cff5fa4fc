"""What some calls need in order to succeed: tasks in the right state, and tokens to revoke.

The fuzzer names what earlier answers named, and by chance hardly ever what can be claimed, or waits for another task.
"""

import os
import secrets
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from uuid import UUID

import httpx2

API = "/api/v1"
TASK = f"{API}/tasks/{{task_id}}"
TOKEN = {"name": "Report", "scopes": []}

admin = httpx2.Client(
    base_url=f"{os.environ['HIVE_ADDRESS']}{API}", headers={"Authorization": f"Bearer {os.environ['HIVE_TOKEN']}"}
)


def made(path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    answer = admin.post(path, json=dict(body)).raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def available_task() -> dict[str, str]:
    return {"task_id": made("/tasks", {"title": "Orchids", "status": "available"})["id"]}


def held_task() -> dict[str, str]:
    task = available_task()
    made(f"/tasks/{task['task_id']}/claim", {"lease_seconds": 60})
    return task


def two_tasks() -> dict[str, str]:
    return available_task() | {"blocker_id": available_task()["task_id"]}


def waiting_task() -> dict[str, str]:
    tasks = two_tasks()
    admin.put(f"/tasks/{tasks['task_id']}/blockers/{tasks['blocker_id']}").raise_for_status()
    return tasks


def own_token() -> dict[str, str]:
    return {"token_id": made("/users/me/tokens", TOKEN)["id"]}


def token_of_an_agent() -> dict[str, str]:
    """The fuzzer makes as many agents as there may be, so one of those that are there will do."""
    agents = admin.get("/agents", params={"limit": 1}).raise_for_status().json()
    agent = agents[0] if agents else made("/agents", {"display_name": "Agent", "scopes": []})["agent"]
    return {"agent_id": agent["id"], "token_id": made(f"/agents/{agent['id']}/tokens", TOKEN)["id"]}


def account() -> dict[str, str]:
    credentials = {"email": f"{secrets.token_hex(8)}@example.org", "password": secrets.token_hex(8)}
    return {"user_id": made("/auth/register", credentials)["user"]["id"]}


ACCOUNT = f"{API}/admin/users/{{user_id}}"
THINGS: Mapping[tuple[str, str], Callable[[], dict[str, str]]] = {
    ("DELETE", TASK): available_task,
    ("PUT", f"{TASK}/status"): available_task,
    ("DELETE", f"{TASK}/assign"): held_task,
    ("POST", f"{TASK}/claim"): available_task,
    ("POST", f"{TASK}/lease"): held_task,
    ("PUT", f"{TASK}/blockers/{{blocker_id}}"): two_tasks,
    ("DELETE", f"{TASK}/blockers/{{blocker_id}}"): waiting_task,
    **{("POST", f"{ACCOUNT}/{action}"): account for action in ("deactivate", "promote", "sign-out", "set-password")},
    ("DELETE", f"{API}/users/me/tokens/{{token_id}}"): own_token,
    ("DELETE", f"{API}/agents/{{agent_id}}/tokens/{{token_id}}"): token_of_an_agent,
}


def thing_for(method: str, path: str, named: Mapping[str, Any]) -> dict[str, str]:
    """The ids to name in such a call in place of those that are named; nothing where no id of the form is named."""
    make = THINGS.get((method, path))
    return make() if make and all(map(is_id, named.values())) else {}


@cache
def own_id() -> str:
    return str(admin.get("/users/me").raise_for_status().json()["id"])


def other_than_oneself(path: str, named: Mapping[str, Any]) -> dict[str, str]:
    """Another account in place of the fuzzer's own, which it would put out."""
    is_own = path.startswith(ACCOUNT) and named.get("user_id") == own_id()
    return account() if is_own else {}


def is_id(value: object) -> bool:
    try:
        return str(UUID(str(value))) == value
    except ValueError:
        return False
