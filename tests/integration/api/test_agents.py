"""Agents: accounts of programs, which belong to a person, have no rights of theirs, and end with them."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.permissions import Actor
from app.database import Database
from app.models import (
    ApiToken,
    Event,
    EventType,
    IdempotentRequest,
    Job,
    JobName,
    Notification,
    Scope,
    TaskStatus,
    User,
)
from app.schemas.task import TaskCreate
from app.services import ClaimService, Notifier, TaskService, agent_service
from app.services.agent_service import MOST_AGENTS
from tests.builders.agents import create_agent
from tests.builders.tasks import create_task
from tests.builders.tokens import create_token
from tests.builders.users import PASSWORD, create_user
from tests.conftest import ClientAs, ClientWith
from tests.utils.serving import Serving
from tests.utils.test_utils import FakeNetwork, events_of, problem, wait_for_lock_waiter, wait_for_two_lock_waiters

KEY = {"Idempotency-Key": "one-agent"}
GARDENER = {"display_name": "Gardener", "role": "Waters", "skills": ["watering"], "scopes": sorted(Scope)}


async def make(client: httpx2.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await client.post("/agents", json=GARDENER | changes)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def agents_in(session: AsyncSession) -> list[User]:
    agents = select(User).where(User.owner_id.is_not(None)).order_by(User.id)
    return list(await session.scalars(agents.execution_options(populate_existing=True)))


async def test_an_agent_is_made_with_its_first_token(
    signed_in: httpx2.AsyncClient, client_with: ClientWith, session: AsyncSession, user: User
) -> None:
    answer = await signed_in.post("/agents", json=GARDENER)

    made = answer.json()
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    [agent] = await agents_in(session)
    assert answer.headers["Location"] == f"/api/v1/users/{agent.id}"
    assert made["agent"]["id"] == str(agent.id)
    assert (made["agent"]["display_name"], made["agent"]["owner_id"]) == ("Gardener", str(user.id))
    assert (agent.owner_id, agent.is_admin, agent.mail_notifications) == (user.id, False, False)
    assert not any((agent.email, agent.password_hash))
    [token] = await session.scalars(select(ApiToken))
    assert (str(token.id), token.user_id, token.scopes) == (made["token_id"], agent.id, sorted(Scope))
    assert made["token"] not in str((await signed_in.get("/agents")).text + (await signed_in.get("/users")).text)
    assert (await (await client_with(made["token"])).get("/tasks")).status_code == 200


async def test_an_agent_is_marked_as_one_wherever_it_is_met(
    signed_in: httpx2.AsyncClient, user: User, other_user: User
) -> None:
    agent = (await make(signed_in))["agent"]

    directory = {entry["id"]: entry for entry in (await signed_in.get("/users")).json()}
    entry = (await signed_in.get(f"/users/{agent['id']}")).json()

    assert directory[agent["id"]] == entry
    assert (entry["type"], entry["owner_id"], entry["skills"]) == ("agent", str(user.id), ["watering"])
    for person in (user, other_user):
        assert (directory[str(person.id)]["type"], directory[str(person.id)]["owner_id"]) == ("user", None)


async def test_an_agent_holds_tasks_and_acts_in_its_own_name(
    signed_in: httpx2.AsyncClient, client_with: ClientWith, session: AsyncSession, user: User
) -> None:
    made = await make(signed_in)
    agent = await client_with(made["token"])
    task, given = await create_task(session, owner=user), await create_task(session, owner=user)

    claimed = await agent.post(f"/tasks/{task.id}/claim")
    done = await agent.put(f"/tasks/{task.id}/status", json={"status": "completed"})
    assigned = await signed_in.post(f"/tasks/{given.id}/assign", json={"user_id": made["agent"]["id"]})

    assert [answer.status_code for answer in (claimed, done, assigned)] == [200, 200, 200]
    assert assigned.json()["assignee_id"] == made["agent"]["id"]
    for event in await events_of(session, task):
        assert (str(event.actor_id), event.actor_type) == (made["agent"]["id"], "agent")
    history = (await signed_in.get(f"/tasks/{task.id}/history")).json()
    assert [event["actor"] for event in history] == [{"id": made["agent"]["id"], "type": "agent"}] * 2


async def test_an_agent_has_no_rights_of_its_owner(
    client_as: ClientAs, client_with: ClientWith, session: AsyncSession, admin: User, user: User
) -> None:
    agent = await client_with((await make(await client_as(admin)))["token"])
    draft = await create_task(session, owner=admin, status=TaskStatus.DRAFT)
    of_others = await create_task(session, owner=user)

    assert problem(await agent.get(f"/tasks/{draft.id}"), 404)
    assert problem(await agent.delete(f"/tasks/{of_others.id}"), 403)
    assert problem(await agent.patch(f"/tasks/{of_others.id}", json={"title": "Mine"}), 403)
    assert problem(await agent.get("/admin/jobs"), 403)


@pytest.mark.parametrize("path", ["/agents", "/users/me/tokens", "/users/me", "/users/me/sessions", "/notifications"])
async def test_an_agent_has_no_account_to_look_after(
    signed_in: httpx2.AsyncClient, client_with: ClientWith, path: str
) -> None:
    agent = await client_with((await make(signed_in))["token"])

    assert problem(await agent.get(path), 403)["code"] == "not_for_tokens"
    assert problem(await agent.post("/agents", json=GARDENER), 403)["code"] == "not_for_tokens"


async def test_an_agent_can_not_sign_in_with_a_password(
    signed_in: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    agent = (await make(signed_in))["agent"]

    names = (agent["id"], f"{agent['id']}@agent.invalid", "None", "null", agent["display_name"])
    # Fewer than may fail within a minute from one address.
    for name, password in [(name, PASSWORD) for name in names] + [(agent["id"], "None"), (agent["id"], "x")]:
        answer = await client.post("/auth/login", json={"email": name, "password": password})
        assert problem(answer, 401)["code"] == "invalid_credentials"


async def test_what_an_agent_is_notified_of_is_stored_and_never_mailed(
    signed_in: httpx2.AsyncClient, serving: Serving, session: AsyncSession, user: User
) -> None:
    agent = (await make(signed_in))["agent"]
    task = await create_task(session, owner=user)
    await signed_in.post(f"/tasks/{task.id}/assign", json={"user_id": agent["id"]})
    [event] = await events_of(session, task)

    await serving(lambda transaction: Notifier(transaction, sends_mail=True)).tell_of(event.id)

    [notification] = await session.scalars(select(Notification))
    assert str(notification.user_id) == agent["id"]
    mails = select(func.count()).select_from(Job).where(Job.name == JobName.SEND_MAIL)
    assert await session.scalar(mails) == 0


async def test_what_an_agent_does_is_notified_in_its_name(
    signed_in: httpx2.AsyncClient, client_with: ClientWith, serving: Serving, session: AsyncSession, user: User
) -> None:
    agent = await client_with((await make(signed_in))["token"])
    task = await create_task(session, owner=user)
    await agent.post(f"/tasks/{task.id}/claim")
    [claimed] = await events_of(session, task)

    await serving(Notifier).tell_of(claimed.id)

    created = select(Event).where(Event.type == EventType.NOTIFICATION_CREATED)
    [event] = await session.scalars(created)
    assert (event.actor_id, event.actor_type) == (claimed.actor_id, "agent")


async def test_an_agent_that_is_ended_gives_back_its_tasks(
    signed_in: httpx2.AsyncClient, client_with: ClientWith, session: AsyncSession, user: User
) -> None:
    made = await make(signed_in)
    agent = await client_with(made["token"])
    task = await create_task(session, owner=user)
    await agent.post(f"/tasks/{task.id}/claim")

    answer = await signed_in.delete(f"/agents/{made['agent']['id']}")

    assert (answer.status_code, answer.json()) == (200, {"message": "Agent ended"})
    assert problem(await agent.get("/tasks"), 401)
    [row] = await agents_in(session)
    assert not row.is_active
    await session.refresh(task)
    assert (task.status, task.assignee_id) == (TaskStatus.AVAILABLE, None)
    released = (await events_of(session, task))[-1]
    assert (released.type, released.actor_id, released.actor_type) == (EventType.TASK_UNASSIGNED, user.id, "user")
    [ended] = await session.scalars(select(Event).where(Event.type == EventType.ACCOUNT_DEACTIVATED))
    assert (ended.actor_id, ended.actor_type) == (row.id, "agent")
    assert await session.scalar(select(func.count()).select_from(ApiToken)) == 0
    assert (await signed_in.get("/agents")).json() == []
    assert (await signed_in.get(f"/users/{row.id}")).json()["type"] == "agent"
    assert (await signed_in.get("/users/me")).status_code == 200
    assert problem(await signed_in.delete(f"/agents/{row.id}"), 404)["code"] == "agent_not_found"


async def test_nobody_else_looks_after_an_agent(
    signed_in: httpx2.AsyncClient, signed_in_admin: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    made = await make(signed_in)
    path = f"/agents/{made['agent']['id']}"
    body = {"name": "Mine", "scopes": []}

    answers = [
        await signed_in_admin.delete(path),
        await signed_in_admin.get(f"{path}/tokens"),
        await signed_in_admin.post(f"{path}/tokens", json=body),
        await signed_in_admin.delete(f"{path}/tokens/{made['token_id']}"),
        await signed_in.delete(f"/agents/{user.id}"),
        # A token of the agent is none of the owner's own.
        await signed_in.delete(f"/users/me/tokens/{made['token_id']}"),
    ]

    assert [problem(answer, 404)["code"] for answer in answers] == ["agent_not_found"] * 5 + ["token_not_found"]
    assert (await signed_in_admin.get("/agents")).json() == []
    assert [agent.is_active for agent in await agents_in(session)] == [True]


async def test_agents_end_with_their_owner(
    signed_in: httpx2.AsyncClient,
    signed_in_other: httpx2.AsyncClient,
    client_with: ClientWith,
    session: AsyncSession,
    user: User,
    other_user: User,
) -> None:
    ending = [await make(signed_in) for _ in range(2)]
    staying = await make(signed_in_other)
    clients = [await client_with(made["token"]) for made in (*ending, staying)]
    tasks = [await create_task(session, owner=other_user) for _ in clients]
    for client, task in zip(clients, tasks, strict=True):
        assert (await client.post(f"/tasks/{task.id}/claim")).status_code == 200

    assert (await signed_in.delete("/users/me")).status_code == 200

    assert [(await client.get("/tasks")).status_code for client in clients] == [401, 401, 200]
    assert [agent.is_active for agent in await agents_in(session)] == [False, False, True]
    for task in tasks:
        await session.refresh(task)
    assert [task.status for task in tasks] == [TaskStatus.AVAILABLE] * 2 + [TaskStatus.IN_PROGRESS]
    ended = await session.scalars(select(Event.actor_id).where(Event.type == EventType.ACCOUNT_DEACTIVATED))
    assert {*map(str, ended)} == {str(user.id), *(made["agent"]["id"] for made in ending)}


@pytest.mark.committed
async def test_no_agent_stays_behind_that_is_made_while_its_owner_ends(
    signed_in: httpx2.AsyncClient, session: AsyncSession, database: Database, user: User
) -> None:
    async with database.unit_of_work() as holder:
        await holder.get_locked(User, user.id)
        ending = asyncio.create_task(signed_in.delete("/users/me"))
        await wait_for_lock_waiter(session)
        making = asyncio.create_task(signed_in.post("/agents", json=GARDENER))
        await wait_for_two_lock_waiters(session)

    assert (await ending).status_code == 200
    assert (await making).status_code == 401
    assert [agent.is_active for agent in await agents_in(session) if agent.is_active] == []


@pytest.mark.committed
async def test_a_task_is_not_left_to_an_agent_that_ends_at_the_same_time(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    for _ in range(5):
        agent = (await make(signed_in))["agent"]
        task = await create_task(session, owner=user)

        assigned, ended = await asyncio.gather(
            signed_in.post(f"/tasks/{task.id}/assign", json={"user_id": agent["id"]}),
            signed_in.delete(f"/agents/{agent['id']}"),
        )

        assert ended.status_code == 200
        assert assigned.status_code in {200, 404}
        await session.refresh(task)
        assert task.status is TaskStatus.AVAILABLE


async def test_an_owner_may_have_so_many_agents_and_no_more(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    agents = [await create_agent(session, owner=user) for _ in range(MOST_AGENTS)]

    refused = await signed_in.post("/agents", json=GARDENER)
    await signed_in.delete(f"/agents/{agents[0].id}")
    after = await signed_in.post("/agents", json=GARDENER)

    assert problem(refused, 409)["code"] == "too_many_agents"
    assert after.status_code == 201


async def test_agents_that_ended_lately_count_too_until_they_are_emptied(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_service, "MOST_WITH_ENDED", 3)
    ended = [await create_agent(session, owner=user, is_active=False) for _ in range(2)]

    first, refused = [await signed_in.post("/agents", json=GARDENER) for _ in range(2)]
    ended[0].emptied_at = datetime.now(UTC)
    await session.commit()
    after = await signed_in.post("/agents", json=GARDENER)

    assert (first.status_code, after.status_code) == (201, 201)
    assert problem(refused, 409)["code"] == "too_many_agents"
    assert len(await agents_in(session)) == 4


async def test_a_repeated_request_makes_one_agent_and_shows_no_secret_again(
    signed_in: httpx2.AsyncClient, session: AsyncSession
) -> None:
    first, again = [await signed_in.post("/agents", json=GARDENER, headers=KEY) for _ in range(2)]

    assert first.status_code == 201
    assert (again.status_code, again.json()["code"]) == (409, "secret_not_kept")
    assert len(await agents_in(session)) == 1
    [kept] = await session.scalars(select(IdempotentRequest))
    assert "hive_" not in f"{kept.body}{kept.headers}"


async def test_an_agents_token_can_be_replaced(signed_in: httpx2.AsyncClient, client_with: ClientWith) -> None:
    made = await make(signed_in)
    path = f"/agents/{made['agent']['id']}/tokens"

    second = await signed_in.post(path, json={"name": "Second", "scopes": ["tasks:read"]})
    listed = (await signed_in.get(path)).json()
    revoked = await signed_in.delete(f"{path}/{made['token_id']}")

    assert (second.status_code, second.headers["Cache-Control"]) == (201, "no-store")
    assert [token["name"] for token in listed] == ["Second", "First token"]
    assert "token" not in listed[0]
    assert revoked.status_code == 200
    assert (await (await client_with(made["token"])).get("/tasks")).status_code == 401
    assert (await (await client_with(second.json()["token"])).get("/tasks")).status_code == 200


async def test_agents_come_in_pages(signed_in: httpx2.AsyncClient, session: AsyncSession, user: User) -> None:
    agents = [await create_agent(session, owner=user) for _ in range(3)]

    first = await signed_in.get("/agents", params={"limit": 2})
    rest = await signed_in.get(first.links["next"]["url"].removeprefix("/api/v1"))

    assert {entry["id"] for entry in first.json() + rest.json()} == {str(agent.id) for agent in agents}
    assert (len(first.json()), len(rest.json())) == (2, 1)


@pytest.mark.parametrize(
    "change", [{"email": "agent@example.org"}, {"password_hash": "x"}, {"is_admin": True}, {"mail_notifications": True}]
)
async def test_the_database_has_no_agent_that_is_half_a_person(
    session: AsyncSession, user: User, change: dict[str, Any]
) -> None:
    with pytest.raises(IntegrityError, match="ck_users_person_or_agent"):
        await create_agent(session, owner=user, **change)


@pytest.mark.parametrize("missing", ["email", "password_hash"])
async def test_the_database_has_no_person_without_credentials(session: AsyncSession, missing: str) -> None:
    with pytest.raises(IntegrityError, match="ck_users_person_or_agent"):
        await create_user(session, **{missing: None})


@pytest.mark.parametrize("field", ["owner_id", "email", "password", "admin", "id"])
async def test_nobody_sets_of_an_agent_what_only_the_system_sets(
    signed_in: httpx2.AsyncClient, session: AsyncSession, field: str
) -> None:
    answer = await signed_in.post("/agents", json=GARDENER | {field: "x"})

    assert [fault["pointer"] for fault in problem(answer, 422)["errors"]] == [f"/{field}"]
    assert await agents_in(session) == []


async def test_others_see_that_an_agent_comes_online(
    app: Any, session: AsyncSession, user: User, other_user: User
) -> None:
    agent = await create_agent(session, owner=user)
    tokens = [await create_token(session, account) for account in (other_user, agent)]

    async with FakeNetwork(query=f"token={tokens[0]}").talk_to(app) as watcher:
        watcher.say('{"type": "ping"}')
        await watcher.text()
        async with FakeNetwork(query=f"token={tokens[1]}").talk_to(app):
            came = await watcher.text(1)
        went = await watcher.text(2)

    for message, kind in ((came, "user.online"), (went, "user.offline")):
        assert f'"type":"{kind}"' in message
        assert f'"actor":{{"id":"{agent.id}","type":"agent"}}' in message


async def test_an_agent_elsewhere_is_known(app: Any, session: AsyncSession, user: User, clean_redis: None) -> None:
    """Another process has its socket; this one knows it from Redis."""
    agent = await create_agent(session, owner=user)
    presence = app.state.hive.presence
    await presence._redis.zadd("hive:presence", {f"{agent.id}/another-process+agent": 32503680000})
    await presence._redis.zadd("hive:presence", {f"{user.id}/another-process": 32503680000})

    await presence._exchange()

    assert presence.online() == {agent.id, user.id}
    assert presence._elsewhere == {agent.id: "agent", user.id: "user"}


async def test_services_know_an_agent_by_its_account(serving: Serving, session: AsyncSession, user: User) -> None:
    agent = Actor.of(await create_agent(session, owner=user))

    task = await serving(TaskService).create(agent, TaskCreate(title="Own", status=TaskStatus.AVAILABLE))
    await serving(ClaimService).claim(agent, task.id)

    assert {event.actor_type for event in await events_of(session, task)} == {"agent"}
