"""Searches that take long: they end, one user has few of them at a time, and they hold up nobody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from app.config import Settings
from app.database import Database
from app.limits.searches import MOST_WAITING
from app.models import TaskStatus, User
from tests.builders.tasks import create_task
from tests.conftest import attached_state
from tests.utils.databases import run_sql
from tests.utils.test_utils import PATIENCE, problem, wait_until_async

pytestmark = pytest.mark.committed

# Of eight connections two are for searches.
POOL, SEARCHES = 8, 2
SHORT_SECONDS = 0.2
WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'hive slow searches%'"
    " AND wait_event_type = 'Lock' AND datname = current_database()"
)


@asynccontextmanager
async def searchable(
    app: FastAPI, settings: Settings, database_url: str, redis_url: str, *, search_seconds: float
) -> AsyncIterator[None]:
    """The application, with the connections of a process of its own."""
    database = Database.connect(
        database_url, application="slow searches", pool_size=POOL, search_seconds=search_seconds
    )
    usual = app.state.hive
    async with attached_state(app, settings, database, redis_url):
        yield
    app.state.hive = usual
    await database.close()


@pytest.fixture
async def hurried(app: FastAPI, settings: Settings, database_url: str, redis_url: str) -> AsyncIterator[None]:
    async with searchable(app, settings, database_url, redis_url, search_seconds=SHORT_SECONDS):
        yield


@pytest.fixture
async def patient(app: FastAPI, settings: Settings, database_url: str, redis_url: str) -> AsyncIterator[None]:
    async with searchable(app, settings, database_url, redis_url, search_seconds=PATIENCE):
        yield


@asynccontextmanager
async def locked_tasks(engine: AsyncEngine) -> AsyncIterator[None]:
    """Nobody can read a task, so that a search takes as long as the block."""
    async with engine.connect() as holder:
        await holder.execute(text("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE"))
        yield


async def until_waiting(url: str, number: int) -> None:
    async def are_waiting() -> bool:
        return await run_sql(url, WAITING) == number

    await wait_until_async(are_waiting, what=f"{number} statements that wait")


SEARCHED = [("GET", "/tasks?q=roses", None), ("POST", "/tasks/claim-next", {"q": "roses"})]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(("method", "path", "body"), SEARCHED)
async def test_a_search_that_takes_too_long_is_given_up(
    signed_in: httpx2.AsyncClient,
    session: AsyncSession,
    engine: AsyncEngine,
    user: User,
    method: str,
    path: str,
    body: dict[str, str] | None,
) -> None:
    task = await create_task(session, owner=user, title="Roses", status=TaskStatus.AVAILABLE)
    async with locked_tasks(engine):
        answer = await signed_in.request(method, path, json=body)

    assert problem(answer, 503)["code"] == "search_too_slow"
    assert answer.headers["Retry-After"] == "1"
    # What comes next is answered, also on the same connections.
    again = await signed_in.request(method, path, json=body)
    assert again.status_code == 200
    assert str(task.id) in again.text


@pytest.mark.usefixtures("hurried")
async def test_a_list_without_words_may_take_longer(
    signed_in: httpx2.AsyncClient, database_url: str, engine: AsyncEngine
) -> None:
    async with locked_tasks(engine):
        listing = asyncio.create_task(signed_in.get("/tasks"))
        await until_waiting(database_url, 1)
        assert (await signed_in.get("/tasks?q=roses")).status_code == 503
        assert not listing.done()

    assert (await listing).status_code == 200


@pytest.mark.usefixtures("long_locks", "patient")
async def test_one_user_has_few_searches_at_a_time_and_others_read_meanwhile(
    signed_in: httpx2.AsyncClient, signed_in_other: httpx2.AsyncClient, database_url: str, engine: AsyncEngine
) -> None:
    async with locked_tasks(engine):
        slow = [asyncio.create_task(signed_in.get("/tasks?q=roses")) for _ in range(SEARCHES)]
        await until_waiting(database_url, SEARCHES)
        refused = await asyncio.gather(*(signed_in.get("/tasks?q=roses") for _ in range(MOST_WAITING + 16)))
        # Another one's search waits for its turn, and nobody's reads and changes do.
        waiting = asyncio.create_task(signed_in_other.get("/tasks?q=roses"))
        for client in (signed_in, signed_in_other):
            answers = await asyncio.gather(*(client.get("/users") for _ in range(20)))
            assert {answer.status_code for answer in answers} == {200}
            assert (await client.patch("/users/me", json={"role": "Gardener"})).status_code == 200
        assert not any(search.done() for search in (*slow, waiting))

    for answer in refused:
        assert problem(answer, 429)["code"] == "too_many_searches"
        assert answer.headers["Retry-After"] == "1"
    assert [(await search).status_code for search in (*slow, waiting)] == [200, 200, 200]
    assert (await signed_in.get("/tasks?q=roses")).status_code == 200


@pytest.mark.usefixtures("long_locks", "patient")
async def test_searches_of_one_user_wait_for_each_other_and_hold_nothing_meanwhile(
    signed_in: httpx2.AsyncClient, database_url: str, engine: AsyncEngine, app: FastAPI
) -> None:
    app.state.hive.limits.searches._patience = PATIENCE
    async with locked_tasks(engine):
        searches = [asyncio.create_task(signed_in.get("/tasks?q=roses")) for _ in range(SEARCHES + MOST_WAITING)]
        await until_waiting(database_url, SEARCHES)
        # There are no more, or this one would wait as well.
        assert problem(await signed_in.get("/tasks?q=roses"), 429)["code"] == "too_many_searches"
        # What waits has no connection, so that all those for searches are the two that are at work.
        assert await run_sql(database_url, WAITING) == SEARCHES

    assert {(await search).status_code for search in searches} == {200}


@pytest.mark.usefixtures("long_locks", "patient")
async def test_claims_of_one_user_by_words_are_looked_for_one_after_the_other(
    signed_in: httpx2.AsyncClient, session: AsyncSession, database_url: str, engine: AsyncEngine, user: User
) -> None:
    for number in range(4):
        await create_task(session, owner=user, title=f"Rose {number}", status=TaskStatus.AVAILABLE)
    async with locked_tasks(engine):
        claims = [asyncio.create_task(signed_in.post("/tasks/claim-next", json={"q": "rose"})) for _ in range(4)]
        await until_waiting(database_url, 1)
        assert (await signed_in.get("/users")).status_code == 200
        await until_waiting(database_url, 1)

    titles = {(await claim).json()["title"] for claim in claims}
    assert titles == {f"Rose {number}" for number in range(4)}


@pytest.mark.usefixtures("long_locks", "patient")
async def test_a_search_for_which_there_is_no_turn_is_told_so(
    signed_in: httpx2.AsyncClient,
    signed_in_other: httpx2.AsyncClient,
    database_url: str,
    engine: AsyncEngine,
    app: FastAPI,
) -> None:
    app.state.hive.database._searches._limit._wait_seconds = 0.01
    async with locked_tasks(engine):
        slow = [asyncio.create_task(signed_in.get("/tasks?q=roses")) for _ in range(SEARCHES)]
        await until_waiting(database_url, SEARCHES)
        assert problem(await signed_in_other.get("/tasks?q=roses"), 503)["code"] == "too_busy"
    assert [(await search).status_code for search in slow] == [200] * SEARCHES
