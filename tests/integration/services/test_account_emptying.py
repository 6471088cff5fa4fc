"""Accounts that ended long ago lose name, address and password, and their addresses are free."""

from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Notification, NotificationKind, User
from app.services import account_emptying
from app.services.account_emptying import KEEP, NOBODYS_NAME, empty_ended_accounts
from tests.builders.agents import create_agent
from tests.builders.tasks import create_task
from tests.builders.users import PASSWORD, create_user
from tests.utils.serving import Serving
from tests.utils.test_utils import problem

LONG_AGO = datetime.now(UTC) - KEEP - timedelta(hours=1)
LATELY = datetime.now(UTC) - KEEP + timedelta(hours=1)


async def ended(session: AsyncSession, at: datetime | None, **overrides: object) -> User:
    return await create_user(session, is_active=False, deactivated_at=at, **overrides)


async def test_only_what_ended_long_ago_is_emptied(serving: Serving, session: AsyncSession, user: User) -> None:
    old = await ended(session, LONG_AGO, display_name="Ada", role="Countess", skills=["analysis"], is_admin=True)
    new = await ended(session, LATELY, display_name="Grace")
    agent = await create_agent(session, owner=old, is_active=False, deactivated_at=LONG_AGO)
    session.add(Notification(user_id=old.id, kind=NotificationKind.ASSIGNED, task_title="Ada's secret"))
    task = await create_task(session, owner=old)

    assert not await serving.do(empty_ended_accounts)

    for each in (old, new, agent, task):
        await session.refresh(each)
    assert {old.email, old.email_key, old.password_hash} == {None}
    assert (old.display_name, old.role, old.skills, old.is_admin) == (NOBODYS_NAME, "", [], False)
    assert old.emptied_at is not None
    assert agent.display_name == NOBODYS_NAME
    assert new.display_name == "Grace"
    assert new.emptied_at is None
    assert await session.scalar(select(func.count()).select_from(Notification)) == 0
    assert task.owner_id == old.id


async def test_without_the_time_of_its_end_the_last_change_counts(serving: Serving, session: AsyncSession) -> None:
    old = await ended(session, None, updated_at=LONG_AGO)
    new = await ended(session, None, updated_at=LATELY)

    await serving.do(empty_ended_accounts)

    for each in (old, new):
        await session.refresh(each)
    assert old.emptied_at is not None
    assert new.emptied_at is None


async def test_the_address_is_taken_until_then_and_free_afterwards(
    client: httpx2.AsyncClient, serving: Serving, session: AsyncSession
) -> None:
    old = await ended(session, LONG_AGO)
    new_user = {"email": old.email, "password": PASSWORD}

    before = await client.post("/auth/register", json=new_user)
    await serving.do(empty_ended_accounts)
    after = await client.post("/auth/register", json=new_user)

    assert problem(before, 409)["code"] == "email_taken"
    assert after.status_code == 201


async def test_it_can_not_begin_anew_and_is_shown_without_a_name(
    signed_in_admin: httpx2.AsyncClient, serving: Serving, session: AsyncSession
) -> None:
    old = await ended(session, LONG_AGO)
    await serving.do(empty_ended_accounts)

    answer = await signed_in_admin.post(f"/admin/users/{old.id}/reactivate")

    assert problem(answer, 409)["code"] == "account_emptied"
    shown = (await signed_in_admin.get(f"/admin/users/{old.id}")).json()
    assert (shown["email"], shown["type"], shown["display_name"]) == (None, "user", NOBODYS_NAME)
    assert (await signed_in_admin.get(f"/users/{old.id}")).json()["display_name"] == NOBODYS_NAME


async def test_many_are_emptied_in_pieces(
    serving: Serving, session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_emptying, "BATCH", 2)
    for _ in range(3):
        await ended(session, LONG_AGO)

    assert await serving.do(empty_ended_accounts)
    assert not await serving.do(empty_ended_accounts)
    left = select(func.count()).select_from(User).where(User.email.is_not(None))
    assert await session.scalar(left) == 0


async def test_who_leaves_by_themselves_is_emptied_in_time(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    assert (await signed_in.delete("/users/me")).status_code == 200

    await session.refresh(user)
    assert user.deactivated_at is not None
