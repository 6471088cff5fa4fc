"""What happens around the commit, and while PostgreSQL or Redis is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from app.config import Settings
from app.database import Database
from app.db.pool import DriverPool
from app.main import build_state, create_app
from app.models import Base, Event, Job, Task, TaskStatus, User
from tests.builders.tasks import create_task
from tests.builders.users import PASSWORD, create_user
from tests.conftest import ClientAs, token_of
from tests.utils.test_utils import events_of, problem, wait_for_lock_waiter, wait_until_async

NEW_USER = {"email": "new@example.org", "password": PASSWORD, "display_name": "New"}
SERIALIZATION_FAILURE = "RAISE EXCEPTION 'no' USING ERRCODE = '40001'"
FAILURES = {
    "another transaction was first": (SERIALIZATION_FAILURE, 503, "try_again"),
    "a rule is broken": ("RAISE EXCEPTION 'no' USING ERRCODE = '23514'", 409, "conflict"),
    "the disk is full": ("RAISE EXCEPTION 'no' USING ERRCODE = '53100'", 503, "database_full"),
    "nobody knows": ("RAISE EXCEPTION 'no'", 500, "internal_error"),
    "the connection ends": ("PERFORM pg_terminate_backend(pg_backend_pid())", 503, "database_unavailable"),
}


WRITTEN = ("tasks", "users", "jobs", "events")


@asynccontextmanager
async def at_each_commit(engine: AsyncEngine, failure: str) -> AsyncIterator[None]:
    """Call this when a transaction is committed that wrote anything."""
    async with engine.begin() as connection:
        await connection.execute(
            text(f"CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {failure}; END$$")
        )
        for table in WRITTEN:
            await connection.execute(
                text(
                    f"CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT OR UPDATE ON {table}"
                    " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION at_commit()"
                )
            )
    try:
        yield
    finally:
        async with engine.begin() as connection:
            for table in WRITTEN:
                await connection.execute(text(f"DROP TRIGGER at_commit ON {table}"))
            await connection.execute(text("DROP FUNCTION at_commit()"))


async def count(session: AsyncSession, *tables: type[Base]) -> list[int]:
    return [await session.scalar(select(func.count()).select_from(table)) or 0 for table in tables]


@pytest.mark.committed
@pytest.mark.parametrize(("failure", "status", "code"), FAILURES.values(), ids=FAILURES.keys())
async def test_a_commit_that_fails_is_no_success_and_leaves_nothing(
    client: httpx2.AsyncClient, session: AsyncSession, engine: AsyncEngine, failure: str, status: int, code: str
) -> None:
    async with at_each_commit(engine, failure):
        answer = await client.post("/auth/register", json=NEW_USER)

    assert problem(answer, status)["code"] == code
    assert ("Retry-After" in answer.headers) == (status == 503)
    assert await count(session, User) == [0]


@pytest.mark.committed
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/tasks", {"title": "Roses"}),
        ("PATCH", "/tasks/{task}", {"title": "Roses"}),
        ("PUT", "/tasks/{task}/status", {"status": "completed"}),
        ("DELETE", "/tasks/{task}/assign", None),
        ("DELETE", "/tasks/{task}", None),
        ("DELETE", "/users/me", None),
    ],
)
async def test_a_change_whose_commit_fails_leaves_everything_as_it_was(
    signed_in: httpx2.AsyncClient,
    session: AsyncSession,
    engine: AsyncEngine,
    user: User,
    method: str,
    path: str,
    body: dict[str, str] | None,
) -> None:
    task = await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS)

    async with at_each_commit(engine, SERIALIZATION_FAILURE):
        answer = await signed_in.request(method, path.format(task=task.id), json=body)

    assert problem(answer, 503)["code"] == "try_again"
    await session.refresh(task)
    assert (task.title, task.status, task.version) == ("Water the orchids", TaskStatus.IN_PROGRESS, 1)
    await session.refresh(user)
    assert user.is_active
    assert await count(session, Task, Event, Job) == [1, 0, 0]


@dataclass(frozen=True)
class Elsewhere:
    """An application of its own, whose database is found through a link that the test makes and takes away."""

    client: httpx2.AsyncClient
    database: Database
    socket: Path
    real_socket: Path

    def bring_back(self) -> None:
        self.socket.symlink_to(self.real_socket)


@asynccontextmanager
async def serve(
    settings: Settings, database: Database, redis_url: str, user: User
) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(settings)
    app.state.hive = build_state(settings, database, redis_url=redis_url)
    headers = {"Authorization": f"Bearer {token_of(user, settings)}"}
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://hive.test/api/v1", headers=headers) as client:
        yield client
    await app.state.hive.redis.aclose()


@pytest.fixture
async def elsewhere(
    settings: Settings, user: User, database_url: str, redis_url: str, tmp_path: Path
) -> AsyncIterator[Elsewhere]:
    [folder] = parse_qs(urlsplit(database_url).query)["host"]
    database = Database.connect(database_url.replace(folder, str(tmp_path)), application="elsewhere", pool_size=2)
    socket = ".s.PGSQL.5432"
    async with serve(settings, database, redis_url, user) as client:
        yield Elsewhere(client, database, tmp_path / socket, Path(folder) / socket)
    await database.close()


@pytest.mark.committed
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/tasks"),
        ("GET", "/users/me"),
        ("POST", "/tasks"),
        ("GET", "/dashboard/summary"),
        ("POST", "/auth/login"),
    ],
)
async def test_while_the_database_is_away_the_answer_is_to_try_again(
    elsewhere: Elsewhere, method: str, path: str
) -> None:
    body = {"email": "a@example.org", "password": PASSWORD} if path == "/auth/login" else {"title": "Roses"}

    answer = await elsewhere.client.request(method, path, json=body if method == "POST" else None)

    assert problem(answer, 503)["code"] == "database_unavailable"
    assert int(answer.headers["Retry-After"]) >= 1
    for told in ("socket", "asyncpg", "PGSQL", "/tmp"):
        assert told not in answer.text


@pytest.mark.committed
async def test_liveness_does_not_ask_the_database_and_readiness_says_that_it_is_away(elsewhere: Elsewhere) -> None:
    alive = await elsewhere.client.get("/health")
    ready = await elsewhere.client.get("/health/ready")

    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
    checks = problem(ready, 503)["checks"]
    assert not checks["database"]["ok"]
    assert checks["redis"]["ok"]


@pytest.mark.committed
async def test_once_the_database_is_back_so_are_reads_and_writes(elsewhere: Elsewhere, session: AsyncSession) -> None:
    assert (await elsewhere.client.get("/tasks")).status_code == 503

    elsewhere.bring_back()

    assert (await elsewhere.client.get("/tasks")).json() == []
    assert (await elsewhere.client.post("/tasks", json={"title": "Roses"})).status_code == 201
    assert await count(session, Task, Event) == [1, 1]


@pytest.mark.committed
async def test_connections_that_the_server_ended_cost_nobody_an_answer(
    elsewhere: Elsewhere, session: AsyncSession
) -> None:
    """As after a restart of the server: what is left in the pool is dead, and is found to be before it's used."""
    elsewhere.bring_back()
    await asyncio.gather(*(elsewhere.client.get("/tasks") for _ in range(4)))
    assert isinstance(elsewhere.database._connections, DriverPool)
    pooled = [connection for _, connection in elsewhere.database._connections._idle._waiting]
    assert len(pooled) == 2
    ended = await session.scalars(
        text(
            "SELECT pg_terminate_backend(pid, 90000) FROM pg_stat_activity"
            " WHERE application_name LIKE 'hive elsewhere%' AND datname = current_database()"
        )
    )
    assert list(ended) == [True, True]

    async def are_hung_up() -> bool:
        return all(connection.is_closed() for connection in pooled)

    await wait_until_async(are_hung_up, what="the news that the server hung up")
    for answer in await asyncio.gather(*(elsewhere.client.get("/tasks") for _ in range(4))):
        assert answer.status_code == 200


@pytest.mark.committed
async def test_requests_that_wait_for_one_another_end_with_try_again(
    signed_in: httpx2.AsyncClient, session: AsyncSession, engine: AsyncEngine, user: User
) -> None:
    """A lock that somebody keeps is waited for a while, not for ever. Here the while is cut short."""
    task = await create_task(session, owner=user)
    async with engine.connect() as holder:
        await holder.execute(text("SELECT 1 FROM tasks FOR UPDATE"))
        waiting = asyncio.create_task(signed_in.patch(f"/tasks/{task.id}", json={"title": "Roses"}))
        pid = await wait_for_lock_waiter(session)
        await session.execute(text("SELECT pg_cancel_backend(:pid)"), {"pid": pid})
        answer = await waiting

    assert problem(answer, 503)["code"] == "too_slow"
    await session.refresh(task)
    assert task.version == 1


async def test_without_redis_reads_and_writes_work(
    settings: Settings, database: Database, session: AsyncSession, user: User, tmp_path: Path
) -> None:
    async with serve(settings, database, f"unix://{tmp_path}/nobody", user) as client:
        made = await client.post("/tasks", json={"title": "Roses", "status": "available"})
        assert made.status_code == 201
        task_id = made.json()["id"]
        assert (await client.get(f"/tasks/{task_id}")).json() == made.json()
        assert (await client.post(f"/tasks/{task_id}/claim")).status_code == 200
        assert (await client.get("/users")).json()[0]["online"] is False
        assert (await client.get("/users/online")).json() == []

    task = (await session.scalars(select(Task))).one()
    assert [each.type for each in await events_of(session, task)] == ["task.created", "task.assigned"]


@pytest.mark.committed
async def test_the_api_starts_serves_and_stops_without_redis(
    settings: Settings, session: AsyncSession, tmp_path: Path
) -> None:
    user = await create_user(session)
    without = settings.model_copy(update={"redis_url": SecretStr(f"unix://{tmp_path}/nobody")})
    app = create_app(without)
    headers = {"Authorization": f"Bearer {token_of(user, settings)}"}

    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://hive.test/api/v1") as client,
    ):
        answer = await client.post("/tasks", json={"title": "Roses"}, headers=headers)
        ready = await client.get("/health/ready")

    assert answer.status_code == 201
    checks = problem(ready, 503)["checks"]
    assert (checks["database"]["ok"], checks["redis"]["ok"]) == (True, False)
    # It waits for a relay, which brings it out when Redis is back.
    written = (await session.scalars(select(Event))).one()
    assert (written.type, written.task_id) == ("task.created", UUID(answer.json()["id"]))


async def test_what_a_request_refuses_halfway_is_undone_and_the_next_one_works(
    client_as: ClientAs, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user)
    await (await client_as(other_user)).post(f"/tasks/{task.id}/claim")
    owner = await client_as(user)

    assert (await owner.post(f"/tasks/{task.id}/claim")).status_code == 409
    assert (await owner.patch(f"/tasks/{task.id}", json={"title": "Roses"})).status_code == 200

    await session.refresh(task)
    assert [each.type for each in await events_of(session, task)] == ["task.assigned", "task.updated"]
    assert (task.version, task.assignee_id) == (3, other_user.id)
