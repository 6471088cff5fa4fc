"""Requests that only look, while all turns for changes are taken."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import database as database_module
from app.config import Settings
from app.database import Database
from app.models import ApiToken, User
from tests.builders.tasks import create_task
from tests.builders.tokens import create_token
from tests.conftest import attached_state, token_of

pytestmark = pytest.mark.committed

# Those that go on for as long as they are read, or change something.
NO_READS = {"/events/stream", "/auth/confirm", "/health/ready"}


@pytest.fixture(params=[(2, 1), (3, 2), (8, 6)], ids=lambda sizes: f"of-{sizes[0]}")
async def crowded(
    request: pytest.FixtureRequest, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Database]:
    """A database whose pool has no turn left for changes."""
    monkeypatch.setattr(database_module, "POOL_SECONDS", 0.1)
    pool_size, changes = request.param
    crowded = Database.connect(database_url, application="test crowd", pool_size=pool_size)
    async with AsyncExitStack() as stack:
        for _ in range(changes):
            await (await stack.enter_async_context(crowded.unit_of_work())).scalar(select(1))
        yield crowded
    await crowded.close()


@asynccontextmanager
async def client_with(app: FastAPI, token: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app),
        base_url="http://hive.test/api/v1",
        headers={"Authorization": f"Bearer {token}"},
    ) as client:
        yield client


def paths_to_get(app: FastAPI, **known: object) -> list[str]:
    """A path of each route that answers GET, with these values in it, and others that there are not."""
    found = set()
    for route in iter_route_contexts(app.routes):
        path = (route.path_format or "").removeprefix("/api/v1")
        if path != route.path_format and "GET" in (route.methods or ()) and path not in NO_READS:
            names = [part.partition("}")[0] for part in path.split("{")[1:]]
            found.add(path.format(**{name: known.get(name, uuid4()) for name in names}))
    return sorted(found)


async def test_each_get_is_answered(
    routes_app: FastAPI, settings: Settings, redis_url: str, session: AsyncSession, admin: User, crowded: Database
) -> None:
    task = await create_task(session, owner=admin)
    await session.commit()
    paths = paths_to_get(routes_app, task_id=task.id, user_id=admin.id)
    assert len(paths) > 15
    async with (
        attached_state(routes_app, settings, crowded, redis_url),
        client_with(routes_app, token_of(admin, settings)) as client,
    ):
        refused = await client.post("/tasks", json={"title": "Roses"})
        answers = {path: (await client.get(path)).status_code for path in paths}

    assert refused.status_code == 503
    assert {path: status for path, status in answers.items() if status not in {200, 404}} == {}
    assert {path for path, status in answers.items() if status == 404} == {
        path for path in paths if "/tokens" in path and path != "/users/me/tokens"
    }


async def test_an_agent_may_read_though_its_use_can_not_be_noted(
    routes_app: FastAPI, settings: Settings, redis_url: str, session: AsyncSession, user: User, crowded: Database
) -> None:
    token = await create_token(session, user)
    async with (
        attached_state(routes_app, settings, crowded, redis_url),
        client_with(routes_app, token) as client,
    ):
        answer = await client.get("/tasks")

    assert answer.status_code == 200
    assert await session.scalar(select(ApiToken.last_used_at)) is None
