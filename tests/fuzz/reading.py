"""Reading all that is stored, for a value that was taken and breaks a read."""

import re
from typing import Any

import httpx2

SORTS = ("created_at", "due_at", "priority", "updated_at")
LISTS = (
    *(f"/tasks?limit=200&sort={direction}{sort}" for sort in SORTS for direction in ("", "-")),
    *("/tasks?ready=true", "/users?limit=200", "/users/online", "/users/me", "/agents?limit=200"),
    *("/users/me/sessions?limit=200", "/users/me/tokens?limit=200", "/notifications?limit=200"),
    *("/dashboard/summary", "/events/types", "/tasks/workflow"),
)


async def read_everything(client: httpx2.AsyncClient, *, since: int) -> None:
    """Read each list to its end, and the log from there on. Any answer but 200 is a failure."""
    await read_all_lists(client)
    await read_log(client, after=since)


async def read_all_lists(client: httpx2.AsyncClient) -> None:
    for path in LISTS:
        await read_list(client, path)


async def read_histories(client: httpx2.AsyncClient) -> None:
    """Read what has happened to each task."""
    for task in await read_list(client, "/tasks?limit=200"):
        await read_list(client, f"/tasks/{task['id']}/history")


async def read_list(client: httpx2.AsyncClient, path: str) -> list[Any]:
    """The items of all pages."""
    items: list[Any] = []
    following = re.compile(r'</api/v1([^>]+)>; rel="next"')
    page: str | None = path
    while page:
        answer = await client.get(page)
        assert answer.status_code == 200, f"{page}: {answer.text}"
        items += answer.json()
        link = following.match(answer.headers.get("Link", ""))
        page = link and link[1]
    return items


async def read_log(client: httpx2.AsyncClient, *, after: int) -> list[Any]:
    """The events of all pages."""
    events: list[Any] = []
    while True:
        answer = await client.get("/events", params={"after": after, "limit": 1_000})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        if not page["events"]:
            return events
        events += page["events"]
        after = page["next"]
