"""An account has so many sessions; one more ends the one that was not kept up for the longest time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.database import Database
from app.models import Event, EventType, User, UserSession
from tests.builders.users import PASSWORD
from tests.conftest import attached_state

MOST = 3


@pytest.fixture
async def app(routes_app: FastAPI, settings: Settings, database: Database, redis_url: str) -> AsyncIterator[FastAPI]:
    strict = settings.model_copy(update={"sessions_per_account": MOST})
    async with attached_state(routes_app, strict, database, redis_url):
        yield routes_app


async def sign_in(client: httpx2.AsyncClient, user: User) -> dict[str, str]:
    answer = await client.post("/auth/login", json={"email": user.email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    tokens: dict[str, str] = answer.json()
    return tokens


async def status_with(client: httpx2.AsyncClient, tokens: dict[str, str]) -> int:
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    return (await client.get("/users/me", headers=headers)).status_code


async def keep_up_in_order(session: AsyncSession, user: User) -> None:
    """Refresh the sessions in the order in which they were made, for the clock stands still in a test."""
    ids = await session.scalars(select(UserSession.id).where(UserSession.user_id == user.id).order_by(UserSession.id))
    for hours, session_id in enumerate(reversed(ids.all()), start=1):
        aged = update(UserSession).where(UserSession.id == session_id)
        await session.execute(aged.values(refreshed_at=func.now() - timedelta(hours=hours)))
    await session.commit()


async def test_one_more_ends_the_one_that_was_not_kept_up_for_the_longest_time(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User
) -> None:
    await session.execute(update(UserSession).values(refreshed_at=func.now() - timedelta(days=1)))
    first, second, third = [await sign_in(client, user) for _ in range(3)]
    await keep_up_in_order(session, user)
    assert await status_with(client, first) == 200
    kept_up = (await client.post("/auth/refresh", json={"refresh_token": first["refresh_token"]})).json()

    fourth = await sign_in(client, user)

    statuses = [await status_with(client, tokens) for tokens in (kept_up, second, third, fourth)]
    assert statuses == [200, 401, 200, 200]
    refused = await client.post("/auth/refresh", json={"refresh_token": second["refresh_token"]})
    assert refused.json()["code"] == "invalid_refresh_token"
    [*_, event] = await session.scalars(
        select(Event).where(Event.type == EventType.SIGN_IN_ENDED).order_by(Event.position)
    )
    assert (event.actor_id, event.data["user_id"], len(event.data["sign_in_ids"])) == (user.id, str(user.id), 1)
    owners = await session.scalars(select(UserSession.user_id).order_by(UserSession.user_id))
    assert sorted(owners) == sorted([user.id] * MOST + [other_user.id])


@pytest.mark.committed
async def test_many_sign_ins_at_once_leave_as_many_sessions_as_there_may_be(
    client: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    tokens = await asyncio.gather(*(sign_in(client, user) for _ in range(2 * MOST)))

    assert await session.scalar(select(func.count()).select_from(UserSession)) == MOST
    statuses = [await status_with(client, each) for each in tokens]
    assert sorted(statuses) == [200] * MOST + [401] * MOST
