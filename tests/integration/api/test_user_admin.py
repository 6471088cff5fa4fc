"""What an operator may do to accounts, by REST and on the machine, and what the audit log says of it."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.cli import accounts
from app.config import Settings
from app.core.permissions import Actor, AdminsOnly
from app.database import Database
from app.events.published import PublishedEvent
from app.models import ApiToken, AuditEntry, Event, EventType, Task, TaskStatus, User, UserSession
from app.services.operator import Operator
from app.services.user_admin import UserAdmin
from tests.builders.agents import create_agent
from tests.builders.tasks import create_task
from tests.builders.tokens import create_token
from tests.builders.users import PASSWORD, create_user
from tests.conftest import ClientAs, ClientWith, token_of
from tests.utils.serving import Serving
from tests.utils.test_utils import FakeNetwork, problem, wait_for_lock_waiter

NEW_PASSWORD = "a password that is new"
ACTIONS = ("deactivate", "reactivate", "promote", "demote", "sign-out", "set-password")


async def act(admin: httpx2.AsyncClient, user: User, action: str, **sent: Any) -> httpx2.Response:
    body = {"password": NEW_PASSWORD} if action == "set-password" else None
    return await admin.post(f"/admin/users/{user.id}/{action}", **({"json": body} | sent if body else sent))


async def entries(session: AsyncSession) -> Sequence[tuple[str, Any, Any, str]]:
    found = await session.scalars(select(AuditEntry).order_by(AuditEntry.created_at, AuditEntry.id))
    return [(entry.action, entry.actor_id, entry.subject_id, entry.address) for entry in found]


async def sign_ins(session: AsyncSession, *users: User) -> list[int]:
    ids = [user.id for user in users]
    return [
        await session.scalar(select(func.count()).select_from(table).where(table.user_id.in_(ids))) or 0
        for table in (UserSession, ApiToken)
    ]


async def test_an_admin_sees_all_accounts_with_their_addresses(
    signed_in_admin: httpx2.AsyncClient, session: AsyncSession, admin: User, user: User
) -> None:
    ended = await create_user(session, is_active=False, display_name="100% gone")
    agent = await create_agent(session, owner=user)

    async def ids(query: str = "") -> list[str]:
        return [account["id"] for account in (await signed_in_admin.get(f"/admin/users{query}")).json()]

    assert set(await ids()) == {str(each.id) for each in (admin, user, ended, agent)}
    assert await ids("?active=false") == [str(ended.id)]
    assert await ids("?admin=true") == [str(admin.id)]
    assert await ids(f"?q={user.email.upper()}") == [str(user.id)]
    assert await ids("?q=0%25%20g") == [str(ended.id)]
    # A sign that stands for others in a LIKE is one to look for here.
    assert await ids("?q=1_0") == await ids("?q=/%25") == []
    assert await ids("?q=nobody") == []
    shown = (await signed_in_admin.get(f"/admin/users/{user.id}")).json()
    assert (shown["email"], shown["type"], shown["sessions"]) == (user.email, "user", 1)
    assert shown["last_seen_at"] is not None
    assert "password" not in json.dumps(shown)
    assert (await signed_in_admin.get(f"/admin/users/{agent.id}")).json()["email"] is None


async def test_accounts_come_in_pages(signed_in_admin: httpx2.AsyncClient, session: AsyncSession, admin: User) -> None:
    made = {str(admin.id)} | {str((await create_user(session)).id) for _ in range(4)}
    found, address = [], "/admin/users?limit=2"
    while address:
        page = await signed_in_admin.get(address)
        found += [account["id"] for account in page.json()]
        address = page.links["next"]["url"].removeprefix("/api/v1") if "next" in page.links else ""

    assert (len(found), set(found)) == (5, made)


async def test_who_is_put_out_loses_all_that_they_had(
    signed_in_admin: httpx2.AsyncClient,
    client: httpx2.AsyncClient,
    client_with: ClientWith,
    session: AsyncSession,
    settings: Settings,
    admin: User,
    user: User,
    other_user: User,
) -> None:
    agent = await create_agent(session, owner=user)
    tokens = [token_of(user, settings), await create_token(session, user), await create_token(session, agent)]
    held = await create_task(session, owner=other_user, assignee=user, status=TaskStatus.IN_PROGRESS)

    answer = await act(signed_in_admin, user, "deactivate")

    assert answer.status_code == 200, answer.text
    assert (answer.json()["active"], answer.json()["sessions"]) == (False, 0)
    assert answer.json()["deactivated_at"] is not None
    for token in tokens:
        assert (await (await client_with(token)).get("/whoami")).status_code == 401
    await session.refresh(held)
    assert (held.status, held.assignee_id) == (TaskStatus.AVAILABLE, None)
    assert await sign_ins(session, user, agent) == [0, 0]
    ended = await session.scalars(select(Event.actor_id).where(Event.type == EventType.ACCOUNT_DEACTIVATED))
    assert set(ended) == {user.id, agent.id}
    sign_in = await client.post("/auth/login", json={"email": user.email, "password": PASSWORD})
    assert problem(sign_in, 401)["code"] == "invalid_credentials"
    assert await entries(session) == [("user.deactivated", admin.id, user.id, "127.0.0.1")]


async def test_who_is_let_in_again_signs_in_as_before(
    signed_in_admin: httpx2.AsyncClient, client: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    await act(signed_in_admin, user, "deactivate")

    answer = await act(signed_in_admin, user, "reactivate")

    assert (answer.json()["active"], answer.json()["deactivated_at"]) == (True, None)
    sign_in = await client.post("/auth/login", json={"email": user.email, "password": PASSWORD})
    assert sign_in.status_code == 200
    assert [action for action, *_ in await entries(session)] == ["user.deactivated", "user.reactivated"]


@pytest.mark.parametrize("action", ACTIONS)
async def test_what_comes_twice_under_a_key_is_done_once(
    signed_in_admin: httpx2.AsyncClient, session: AsyncSession, user: User, action: str
) -> None:
    headers = {"Idempotency-Key": "one"}
    if action == "reactivate":
        await act(signed_in_admin, user, "deactivate")
    if action == "demote":
        await act(signed_in_admin, user, "promote")
    before = len(await entries(session))

    first, again = [await act(signed_in_admin, user, action, headers=headers) for _ in range(2)]

    assert first.status_code == again.status_code == 200
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(await entries(session)) == before + 1


@pytest.mark.parametrize("action", ["deactivate", "reactivate", "promote", "demote"])
async def test_what_is_so_already_is_not_written_down_again(
    signed_in_admin: httpx2.AsyncClient, session: AsyncSession, user: User, action: str
) -> None:
    if action == "deactivate":
        await act(signed_in_admin, user, action)
    if action == "promote":
        await act(signed_in_admin, user, action)
    before = await entries(session)

    answer = await act(signed_in_admin, user, action)

    assert answer.status_code == 200
    assert await entries(session) == before


@pytest.mark.parametrize("action", ACTIONS)
async def test_a_change_of_another_version_is_refused(
    signed_in_admin: httpx2.AsyncClient, session: AsyncSession, user: User, action: str
) -> None:
    agent = await create_agent(session, owner=user)
    for account in (user, agent):
        answer = await act(signed_in_admin, account, action, headers={"If-Match": '"7"'})
        assert problem(answer, 412)["current"]["id"] == str(account.id)
    assert await entries(session) == []


async def test_a_new_password_ends_what_the_old_one_opened(
    signed_in_admin: httpx2.AsyncClient, client: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    agent = await create_agent(session, owner=user)
    for account in (user, agent):
        await create_token(session, account)

    answer = await act(signed_in_admin, user, "set-password")

    assert answer.status_code == 200
    assert await sign_ins(session, user, agent) == [0, 0]
    statuses = [
        (await client.post("/auth/login", json={"email": user.email, "password": password})).status_code
        for password in (PASSWORD, NEW_PASSWORD)
    ]
    assert statuses == [401, 200]
    stored = (await session.scalars(select(AuditEntry))).one()
    assert stored.data == {"sessions": 1, "tokens": 2}


@pytest.mark.parametrize("action", ["sign-out", "set-password"])
async def test_tokens_are_kept_if_asked_for(
    signed_in_admin: httpx2.AsyncClient, session: AsyncSession, user: User, action: str
) -> None:
    await create_token(session, user)
    body = {"keep_tokens": True} | ({"password": NEW_PASSWORD} if action == "set-password" else {})

    answer = await signed_in_admin.post(f"/admin/users/{user.id}/{action}", json=body)

    assert answer.status_code == 200
    assert await sign_ins(session, user) == [0, 1]


async def test_what_can_not_be_done_is_told(
    signed_in_admin: httpx2.AsyncClient, session: AsyncSession, admin: User, user: User
) -> None:
    agent = await create_agent(session, owner=user)
    ended = await create_user(session, is_active=False)
    ended_agent = await create_agent(session, owner=ended, is_active=False)
    refusals = [
        (admin, "demote", "last_admin"),
        (admin, "deactivate", "last_admin"),
        (admin, "set-password", "own_password"),
        (agent, "promote", "not_a_person"),
        (agent, "set-password", "not_a_person"),
        (ended, "promote", "account_deactivated"),
        (ended, "set-password", "account_deactivated"),
        (ended_agent, "reactivate", "owner_deactivated"),
    ]
    for account, action, code in refusals:
        assert problem(await act(signed_in_admin, account, action), 409)["code"] == code

    unknown = User(id=uuid4())
    for action in ACTIONS:
        assert problem(await act(signed_in_admin, unknown, action), 404)["code"] == "user_not_found"
    common = await signed_in_admin.post(f"/admin/users/{user.id}/set-password", json={"password": "qwertyuiop"})
    own = await signed_in_admin.post(f"/admin/users/{user.id}/set-password", json={"password": user.email})
    assert problem(common, 422)["errors"][0]["code"] == "common_password"
    assert problem(own, 422)["errors"][0]["code"] == "password_names_account"
    assert await entries(session) == []


async def test_an_admin_who_has_left_is_no_admin_who_stays(
    signed_in_admin: httpx2.AsyncClient, session: AsyncSession, admin: User
) -> None:
    await create_user(session, is_admin=True, is_active=False)

    own = await signed_in_admin.delete("/users/me")

    assert problem(own, 409)["code"] == "last_admin"
    await session.refresh(admin)
    assert admin.is_active


@pytest.mark.committed
@pytest.mark.parametrize("way", ["demote each other", "deactivate each other", "leave"])
async def test_of_two_admins_who_go_at_once_one_stays(client_as: ClientAs, session: AsyncSession, way: str) -> None:
    admins = [await create_user(session, is_admin=True) for _ in range(2)]
    clients = [await client_as(each) for each in admins]
    if way == "leave":
        asked = [client.delete("/users/me") for client in clients]
    else:
        others = reversed(admins)
        asked = [act(client, other, way.split(maxsplit=1)[0]) for client, other in zip(clients, others, strict=True)]

    answers = await asyncio.gather(*asked)

    # The second one may have lost its rights before it was looked up.
    done, refused = sorted(answer.status_code for answer in answers)
    assert done == 200
    assert refused in {401, 403, 409}
    staying = select(func.count()).select_from(User).where(User.is_admin, User.is_active)
    assert await session.scalar(staying) == 1


@pytest.mark.committed
@pytest.mark.parametrize(("ending", "undoing"), [("demote", "promote"), ("deactivate", "reactivate")])
async def test_who_stops_being_an_admin_can_not_put_themselves_back(
    client_as: ClientAs, session: AsyncSession, database: Database, ending: str, undoing: str
) -> None:
    staying, leaving = [await create_user(session, is_admin=True) for _ in range(2)]
    client = await client_as(leaving)
    async with database.unit_of_work() as holder:
        await getattr(UserAdmin(holder), ending)(Operator(Actor.of(staying), address=""), leaving.id)
        # The caller is still an admin when they are looked up, and waits for the lock.
        going_back = asyncio.create_task(act(client, leaving, undoing))
        await wait_for_lock_waiter(session)

    assert problem(await going_back, 403)["code"] == "admins_only"
    await session.refresh(leaving)
    assert (leaving.is_admin, leaving.is_active) == (ending != "demote", ending != "deactivate")
    assert [actor for _, actor, *_ in await entries(session)] == [staying.id]


@pytest.mark.parametrize("action", ACTIONS)
async def test_who_is_no_admin_any_more_changes_nothing(
    serving: Serving, session: AsyncSession, user: User, action: str
) -> None:
    demoted = await create_user(session)
    change = getattr(serving(UserAdmin), action.replace("-", "_"))
    given = [NEW_PASSWORD] if action == "set-password" else []

    with pytest.raises(AdminsOnly):
        await change(Operator(Actor(demoted.id, is_admin=True), address=""), user.id, *given)

    assert await entries(session) == []


async def test_other_rights_close_what_was_opened_with_the_old_ones(
    app: FastAPI, session: AsyncSession, settings: Settings, signed_in_admin: httpx2.AsyncClient
) -> None:
    other = await create_user(session, is_admin=True)
    connections = app.state.hive.sockets.connections

    async with FakeNetwork(query=f"token={token_of(other, settings)}").talk_to(app) as network:
        network.say('{"type": "ping", "data": 1}')
        await network.text()
        assert (await act(signed_in_admin, other, "demote")).status_code == 200
        connections.deliver(await published(session, EventType.ACCOUNT_CHANGED))
        assert await network.closing_code() == 1013

    async with FakeNetwork(query=f"token={token_of(other, settings)}").talk_to(app) as network:
        network.say('{"type": "ping", "data": 1}')
        assert "pong" in await network.text()
        [connection] = list(connections)
        assert not connection.actor.is_admin


async def test_who_is_let_in_again_has_sockets_again(
    app: FastAPI, session: AsyncSession, settings: Settings, signed_in_admin: httpx2.AsyncClient, user: User
) -> None:
    connections = app.state.hive.sockets.connections
    await act(signed_in_admin, user, "deactivate")
    connections.deliver(await published(session, EventType.ACCOUNT_DEACTIVATED))
    await act(signed_in_admin, user, "reactivate")
    connections.deliver(await published(session, EventType.ACCOUNT_CHANGED))
    token = await create_token(session, user)

    async with FakeNetwork(query=f"token={token}").talk_to(app) as network:
        network.say('{"type": "ping", "data": 1}')
        assert "pong" in await network.text()


async def published(session: AsyncSession, event_type: EventType) -> PublishedEvent:
    """The last event of the type, as the relay would publish it."""
    found = await session.scalars(select(Event).where(Event.type == event_type).order_by(Event.position.desc()))
    event = found.first()
    assert event is not None
    event.seq = event.position
    return PublishedEvent.of(event)


async def test_the_audit_log_is_read_by_actor_subject_and_action(
    signed_in_admin: httpx2.AsyncClient, admin: User, user: User, other_user: User
) -> None:
    await act(signed_in_admin, user, "sign-out")
    await act(signed_in_admin, other_user, "promote")

    async def actions(query: str = "") -> list[str]:
        return [entry["action"] for entry in (await signed_in_admin.get(f"/admin/audit{query}")).json()]

    assert await actions() == ["user.promoted", "user.signed_out"]
    assert await actions(f"?subject={user.id}") == ["user.signed_out"]
    assert await actions(f"?actor={user.id}") == []
    assert await actions("?action=user.promoted&action=user.demoted") == ["user.promoted"]
    [entry] = (await signed_in_admin.get(f"/admin/audit?actor={admin.id}&limit=1")).json()
    assert (entry["subject_id"], entry["address"]) == (str(other_user.id), "127.0.0.1")
    assert entry["request_id"]


@pytest.mark.parametrize("change", [delete(AuditEntry), update(AuditEntry).values(address="")])
async def test_the_audit_log_is_only_ever_added_to(
    signed_in_admin: httpx2.AsyncClient, session: AsyncSession, user: User, change: Any
) -> None:
    await act(signed_in_admin, user, "promote")

    with pytest.raises(DBAPIError, match="only ever added to"):
        async with session.begin_nested():
            await session.execute(change)


@pytest.mark.committed
async def test_the_commands_do_the_same(
    session: AsyncSession, database_url: str, client: httpx2.AsyncClient, user: User
) -> None:
    async def change(what: accounts.Change) -> None:
        assert await accounts.change_account(database_url, name=user.email.upper(), change=what) == user.email

    await change(accounts.promote)
    with pytest.raises(ValueError, match="last active admin"):
        await change(accounts.deactivate)
    await accounts.create_account(database_url, email="root@example.org", name="", password=PASSWORD, is_admin=True)
    await change(accounts.demote)
    await change(accounts.deactivate)
    await change(accounts.reactivate)
    await change(accounts.set_password(NEW_PASSWORD, keep_tokens=False))
    await change(accounts.sign_out(keep_tokens=False))

    told = [action for action, actor, *_, address in await entries(session) if (actor, address) == (None, "")]
    assert told == [
        "user.promoted",
        "user.created",
        "user.demoted",
        "user.deactivated",
        "user.reactivated",
        "user.password_set",
        "user.signed_out",
    ]
    signed_in = await client.post("/auth/login", json={"email": user.email, "password": NEW_PASSWORD})
    assert signed_in.status_code == 200
    listed = await accounts.list_accounts(database_url, words="root@")
    assert [(account.email, account.admin) for account in listed] == [("root@example.org", True)]
    with pytest.raises(ValueError, match=r"There is no account nobody@example\.org"):
        await accounts.change_account(database_url, name="nobody@example.org", change=accounts.promote)
    with pytest.raises(ValueError, match="most frequent"):
        await change(accounts.set_password("qwertyuiop", keep_tokens=False))


async def test_tasks_that_an_ended_account_owns_stay(
    signed_in_admin: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)

    await act(signed_in_admin, user, "deactivate")

    assert await session.scalar(select(Task.owner_id).where(Task.id == task.id)) == user.id
