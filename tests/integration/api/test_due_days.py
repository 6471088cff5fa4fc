"""Due times that are given as a date alone, and the time zones of accounts: the answer, the row and the event."""

from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import EventType, Task, User
from tests.builders.agents import create_agent
from tests.builders.tasks import create_task
from tests.builders.tokens import create_token
from tests.builders.users import create_user
from tests.conftest import ClientAs, ClientWith
from tests.utils.test_utils import events_of, problem

END_IN_BERLIN = "2030-12-24T22:59:59.999999Z"
END_IN_UTC = "2030-12-24T23:59:59.999999Z"


@pytest.fixture
async def berliner(session: AsyncSession, client_as: ClientAs) -> httpx2.AsyncClient:
    return await client_as(await create_user(session, time_zone="Europe/Berlin"))


# Without a key or a condition, and with one.
CREATIONS: dict[str, dict[str, str]] = {"plain": {}, "with a key": {"Idempotency-Key": "one"}}
CHANGES = {"PATCH": ("PATCH", {}), "with a condition": ("PATCH", {"If-Match": '"1"'}), "PUT": ("PUT", {})}


@pytest.mark.parametrize("headers", CREATIONS.values(), ids=CREATIONS)
async def test_date_alone_is_the_end_of_that_day_where_the_owner_is(
    berliner: httpx2.AsyncClient, session: AsyncSession, headers: dict[str, str]
) -> None:
    made = await berliner.post("/tasks", json={"title": "Goose", "due_at": "2030-12-24"}, headers=headers)

    assert made.status_code == 201
    assert made.json()["due_at"] == END_IN_BERLIN
    assert (await berliner.get(f"/tasks/{made.json()['id']}")).json()["due_at"] == END_IN_BERLIN
    stored = (await session.scalars(select(Task))).one()
    assert stored.due_at == datetime(2030, 12, 24, 22, 59, 59, 999999, tzinfo=UTC)
    [event] = await events_of(session, stored)
    assert event.data["due_at"] == END_IN_BERLIN


@pytest.mark.parametrize(("method", "headers"), CHANGES.values(), ids=CHANGES)
async def test_date_alone_is_that_day_where_the_editor_is(
    berliner: httpx2.AsyncClient, session: AsyncSession, method: str, headers: dict[str, str]
) -> None:
    task_id = (await berliner.post("/tasks", json={"title": "Goose"})).json()["id"]

    changed = await berliner.request(method, f"/tasks/{task_id}", json={"due_at": "2030-12-24"}, headers=headers)
    again = await berliner.request(method, f"/tasks/{task_id}", json={"due_at": "2030-12-24"})

    assert changed.json()["due_at"] == END_IN_BERLIN
    assert (changed.json()["version"], again.json()["version"]) == (2, 2)
    stored = (await session.scalars(select(Task))).one()
    updated = [event for event in await events_of(session, stored) if event.type == EventType.TASK_UPDATED]
    assert [event.data for event in updated] == [{"changed": {"due_at": END_IN_BERLIN}}]


async def test_account_is_in_utc_unless_it_says_otherwise(signed_in: httpx2.AsyncClient) -> None:
    made = await signed_in.post("/tasks", json={"title": "Goose", "due_at": "2030-12-24"})

    assert made.json()["due_at"] == END_IN_UTC


async def test_batch_takes_dates_alone(berliner: httpx2.AsyncClient) -> None:
    task_id = (await berliner.post("/tasks", json={"title": "Goose"})).json()["id"]
    items: list[dict[str, Any]] = [
        {"op": "create", "body": {"title": "Tree", "due_at": "2030-12-24"}},
        {"op": "update", "id": task_id, "body": {"due_at": "2030-12-24"}},
    ]

    done = await berliner.post("/tasks/batch", json={"mode": "atomic", "items": items})

    assert [item["body"]["due_at"] for item in done.json()["items"]] == [END_IN_BERLIN] * 2


async def test_agent_is_in_the_time_zone_of_its_owner(
    session: AsyncSession, client_with: ClientWith, user: User
) -> None:
    user.time_zone = "Europe/Berlin"
    agent = await client_with(await create_token(session, await create_agent(session, owner=user)))

    made = await agent.post("/tasks", json={"title": "Goose", "due_at": "2030-12-24"})
    listed = await agent.get("/tasks?due_before=2030-12-25")

    assert made.json()["due_at"] == END_IN_BERLIN
    assert [task["due_at"] for task in listed.json()] == [END_IN_BERLIN]


async def test_new_time_zone_leaves_due_times_as_they_are(berliner: httpx2.AsyncClient) -> None:
    task_id = (await berliner.post("/tasks", json={"title": "Goose", "due_at": "2030-12-24"})).json()["id"]

    await berliner.patch("/users/me", json={"time_zone": "Asia/Tokyo"})

    assert (await berliner.get(f"/tasks/{task_id}")).json()["due_at"] == END_IN_BERLIN
    later = await berliner.post("/tasks", json={"title": "Tree", "due_at": "2030-12-24"})
    assert later.json()["due_at"] == "2030-12-24T14:59:59.999999Z"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("due_before=2030-12-24", ["before"]),
        ("due_after=2030-12-24", ["after"]),
        ("due_before=2030-12-25", ["before", "begins", "noon", "ends"]),
        ("due_after=2030-12-23", ["begins", "noon", "ends", "after"]),
        ("due_after=2030-12-23&due_before=2030-12-25", ["begins", "noon", "ends"]),
        ("due_after=2030-12-24T11:00:00Z&due_before=2030-12-25", ["ends"]),
    ],
)
@pytest.mark.parametrize("odd", ["", "&q="], ids=["all", "filtered"])
async def test_filter_of_a_date_alone_leaves_out_or_takes_in_the_whole_day(
    session: AsyncSession, client_as: ClientAs, query: str, found: list[str], odd: str
) -> None:
    owner = await create_user(session, time_zone="Europe/Berlin")
    for title, due_at in {
        "before": datetime(2030, 12, 23, 22, 59, 59, 999999, tzinfo=UTC),
        "begins": datetime(2030, 12, 23, 23, tzinfo=UTC),
        "noon": datetime(2030, 12, 24, 11, tzinfo=UTC),
        "ends": datetime(2030, 12, 24, 22, 59, 59, 999999, tzinfo=UTC),
        "after": datetime(2030, 12, 24, 23, tzinfo=UTC),
    }.items():
        await create_task(session, owner=owner, title=title, due_at=due_at)

    listed = await (await client_as(owner)).get(f"/tasks?sort=due_at&{query}{odd.replace('q=', 'category=general')}")

    assert [task["title"] for task in listed.json()] == found


async def test_pages_of_a_list_by_day_go_on(berliner: httpx2.AsyncClient) -> None:
    for number in range(3):
        await berliner.post("/tasks", json={"title": f"Goose {number}", "due_at": "2030-12-24"})

    first = await berliner.get("/tasks?due_after=2030-12-23&limit=2")
    second = await berliner.get(first.links["next"]["url"].removeprefix("/api/v1"))

    assert [len(page.json()) for page in (first, second)] == [2, 1]


@pytest.mark.parametrize("value", ["2030-02-30", "2030-12-24Z", "24.12.2030", "3000-01-01"])
async def test_no_day_is_refused_by_name(signed_in: httpx2.AsyncClient, session: AsyncSession, value: str) -> None:
    made = await signed_in.post("/tasks", json={"title": "Goose", "due_at": value})
    listed = await signed_in.get("/tasks", params={"due_before": value})

    assert problem(made, 422)["errors"][0]["pointer"] == "/due_at"
    assert problem(listed, 422)["errors"][0]["pointer"] == "/due_before"
    assert await session.scalar(select(Task)) is None


ADA = {"email": "ada@example.org", "password": "correct horse battery"}


@pytest.mark.parametrize(("given", "shown"), [({}, "UTC"), ({"time_zone": "Asia/Tokyo"}, "Asia/Tokyo")])
async def test_register_takes_a_time_zone(
    client: httpx2.AsyncClient, session: AsyncSession, given: dict[str, str], shown: str
) -> None:
    made = await client.post("/auth/register", json=ADA | given)

    assert made.json()["user"]["time_zone"] == shown
    assert await session.scalar(select(User.time_zone)) == shown


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_time_zone_is_changed_and_shown_to_oneself_alone(
    signed_in: httpx2.AsyncClient, user: User, session: AsyncSession, method: str
) -> None:
    changed = await signed_in.request(method, "/users/me", json={"time_zone": "America/Sao_Paulo"})

    assert changed.json()["time_zone"] == "America/Sao_Paulo"
    assert changed.headers["ETag"] == '"2"'
    assert (await signed_in.get("/users/me")).json()["time_zone"] == "America/Sao_Paulo"
    assert "time_zone" not in (await signed_in.get(f"/users/{user.id}")).json()
    await session.refresh(user)
    assert user.time_zone == "America/Sao_Paulo"


@pytest.mark.parametrize("value", ["Middle/Earth", "", None, 1, "europe/berlin"])
async def test_unknown_time_zone_is_refused(
    signed_in: httpx2.AsyncClient, session: AsyncSession, value: object
) -> None:
    changed = await signed_in.patch("/users/me", json={"time_zone": value, "role": "Gardener"})

    assert problem(changed, 422)["errors"][0]["pointer"] == "/time_zone"
    assert await session.scalar(select(User.role)) == ""
