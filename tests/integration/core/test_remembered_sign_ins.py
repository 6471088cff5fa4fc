"""Tokens are remembered, and what has ended is put out nevertheless: at once here, within a second elsewhere."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from app.core.security import hash_secret
from app.core.sign_in_memory import REMEMBERED_SECONDS
from app.core.sign_in_watch import LOOK_SECONDS, TRUSTED_SECONDS, SignInWatch, purge_sign_in_changes
from app.database import Database
from app.models import User
from app.state import State
from tests.builders.agents import create_agent
from tests.builders.tokens import create_token
from tests.builders.users import PASSWORD, create_user
from tests.conftest import ClientAs, ClientWith
from tests.utils.processes import running_apis
from tests.utils.serving import Serving
from tests.utils.test_utils import PATIENCE, wait_until_async

pytestmark = pytest.mark.committed
# Needs nothing of the database but the caller.
PATH = "/tasks/workflow"


@pytest.fixture
def state(app: FastAPI) -> State:
    found: State = app.state.hive
    return found


@pytest.fixture
async def watch(state: State, database: Database) -> SignInWatch:
    """What looks for the application, at each call of `look`. Its first look is done."""
    watch = SignInWatch(database, state.sign_ins.memory)
    await watch.look()
    return watch


@pytest.fixture
async def token(session: AsyncSession, user: User) -> str:
    return await create_token(session, user)


def is_remembered(state: State, token: str) -> bool:
    return state.sign_ins.memory.recall(token) is not None


async def execute(engine: AsyncEngine, statement: str, **parameters: object) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(statement), parameters)


@pytest.mark.usefixtures("watch")
async def test_a_token_is_looked_up_once(client_as: ClientAs, user: User, engine: AsyncEngine) -> None:
    client = await client_as(user)
    assert (await client.get(PATH)).status_code == 200
    async with engine.begin() as connection:
        # Whoever looks it up would wait.
        await connection.execute(text("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE"))

        assert (await client.get(PATH)).status_code == 200


CHANGES = {
    "another session ends": ("DELETE FROM sessions WHERE id <> :user", True),
    "the session ends": ("DELETE FROM sessions WHERE id = :user", False),
    "the session is to end sooner": ("UPDATE sessions SET expires_at = now() WHERE id = :user", False),
    "the session is kept up": ("UPDATE sessions SET expires_at = expires_at + interval '1 day'", True),
    "the account is deactivated": ("UPDATE users SET is_active = false WHERE id = :user", False),
    "the account becomes an admin's": ("UPDATE users SET is_admin = true WHERE id = :user", False),
    "the account's name changes": ("UPDATE users SET display_name = 'Ada King', is_active = true", True),
}


@pytest.mark.parametrize(("statement", "stays"), CHANGES.values(), ids=CHANGES)
async def test_what_a_look_sees_of_a_session(
    client_as: ClientAs,
    state: State,
    watch: SignInWatch,
    engine: AsyncEngine,
    session: AsyncSession,
    user: User,
    statement: str,
    stays: bool,
) -> None:
    await create_user(session)
    client = await client_as(user)
    token = client.headers["Authorization"].removeprefix("Bearer ")
    await client.get(PATH)
    assert is_remembered(state, token)

    await execute(engine, statement, **({"user": user.id} if ":user" in statement else {}))
    await watch.look()

    assert is_remembered(state, token) == stays


CHANGES_OF_TOKENS = {
    "it is revoked": ("DELETE FROM api_tokens WHERE hash = :hash", False),
    "it is to end sooner": ("UPDATE api_tokens SET expires_at = now() WHERE hash = :hash", False),
    "it may do less": ("UPDATE api_tokens SET scopes = '{}' WHERE hash = :hash", False),
    "its account ends": ("UPDATE users SET is_active = false", False),
    "it is used": ("UPDATE api_tokens SET last_used_at = now() WHERE hash = :hash", True),
    "another is revoked": ("DELETE FROM api_tokens WHERE hash <> :hash", True),
}


@pytest.mark.parametrize(("statement", "stays"), CHANGES_OF_TOKENS.values(), ids=CHANGES_OF_TOKENS)
async def test_what_a_look_sees_of_a_token(
    client_with: ClientWith,
    state: State,
    watch: SignInWatch,
    engine: AsyncEngine,
    session: AsyncSession,
    user: User,
    token: str,
    statement: str,
    stays: bool,
) -> None:
    await create_token(session, user)
    await (await client_with(token)).get(PATH)
    assert is_remembered(state, token)

    await execute(engine, statement, **({"hash": hash_secret(token)} if ":hash" in statement else {}))
    await watch.look()

    assert is_remembered(state, token) == stays


async def test_what_is_committed_late_is_seen_though_a_later_change_was(
    client_as: ClientAs, state: State, watch: SignInWatch, engine: AsyncEngine, user: User, other_user: User
) -> None:
    tokens = []
    for each in (user, other_user):
        client = await client_as(each)
        await client.get(PATH)
        tokens.append(client.headers["Authorization"].removeprefix("Bearer "))
    async with engine.begin() as slow:
        await slow.execute(text("DELETE FROM sessions WHERE id = :id"), {"id": user.id})
        await execute(engine, "DELETE FROM sessions WHERE id = :id", id=other_user.id)
        await watch.look()
        assert [is_remembered(state, token) for token in tokens] == [True, False]
    # It has the lower number, and is seen last.
    await watch.look()

    assert not is_remembered(state, tokens[0])


async def test_a_change_counts_once_however_often_it_is_read(
    client_as: ClientAs, state: State, watch: SignInWatch, engine: AsyncEngine, user: User
) -> None:
    """While an old transaction is open, each look reads what has changed since it began."""
    client = await client_as(user)
    async with engine.begin() as old:
        await old.execute(text("SELECT pg_current_xact_id()"))
        await execute(engine, "UPDATE users SET is_admin = true WHERE id = :id", id=user.id)
        await watch.look()
        await client.get(PATH)
        await watch.look()

        assert is_remembered(state, client.headers["Authorization"].removeprefix("Bearer "))


async def test_without_a_look_tokens_are_looked_up(
    client_as: ClientAs, state: State, engine: AsyncEngine, user: User
) -> None:
    now = [1000.0]
    state.sign_ins.memory._clock = lambda: now[0]
    watch = SignInWatch(Database.connect("postgresql:///?host=/nowhere", application="test"), state.sign_ins.memory)
    client = await client_as(user)
    state.sign_ins.memory.vouch(until=now[0] + 0.9)
    await client.get(PATH)
    await execute(engine, "DELETE FROM sessions WHERE id = :id", id=user.id)

    await watch.look()
    assert (await client.get(PATH)).status_code == 200
    now[0] += 0.9
    assert (await client.get(PATH)).status_code == 401


async def test_whoever_could_not_look_begins_anew(
    client_as: ClientAs, state: State, watch: SignInWatch, database: Database, user: User
) -> None:
    client = await client_as(user)
    await client.get(PATH)
    token = client.headers["Authorization"].removeprefix("Bearer ")
    watch._database = Database.connect("postgresql:///?host=/nowhere", application="test")
    await watch.look()
    assert is_remembered(state, token)
    watch._database = database
    await watch.look()

    assert not is_remembered(state, token)


async def test_another_server_with_lower_numbers_is_a_new_beginning(
    client_as: ClientAs, state: State, watch: SignInWatch, user: User
) -> None:
    client = await client_as(user)
    await client.get(PATH)
    assert watch._horizon is not None
    watch._horizon += 1_000_000
    await watch.look()

    assert not is_remembered(state, client.headers["Authorization"].removeprefix("Bearer "))


async def test_another_connection_is_a_new_beginning(
    client_as: ClientAs, state: State, watch: SignInWatch, user: User, engine: AsyncEngine
) -> None:
    """A database that was restored under another name can take the name of this one, between two looks."""
    client = await client_as(user)
    await client.get(PATH)
    await execute(engine, "SELECT pg_terminate_backend(:backend, 90000)", backend=watch._backend)
    # Whether the first look still meets the old connection is for the kernel to say.
    await watch.look()
    await watch.look()

    assert not is_remembered(state, client.headers["Authorization"].removeprefix("Bearer "))


@pytest.mark.parametrize("table", ["sessions", "api_tokens", "users"])
async def test_a_table_that_is_emptied_whole_puts_everybody_out(
    client_as: ClientAs, state: State, watch: SignInWatch, user: User, engine: AsyncEngine, table: str
) -> None:
    client = await client_as(user)
    await client.get(PATH)
    await execute(engine, f"TRUNCATE {table} CASCADE")
    await watch.look()

    assert not is_remembered(state, client.headers["Authorization"].removeprefix("Bearer "))


@pytest.mark.usefixtures("watch")
async def test_a_stream_of_events_does_not_begin_for_whoever_was_put_out_a_moment_ago(
    client_with: ClientWith, token: str, engine: AsyncEngine
) -> None:
    client = await client_with(token)
    assert (await client.get(PATH)).status_code == 200
    await execute(engine, "DELETE FROM api_tokens")

    # From beyond the end of the log a stream would end at once.
    stream = await client.get("/events/stream", params={"after": 2**53 - 1})

    assert stream.status_code == 401


@pytest.mark.usefixtures("watch")
async def test_one_process_knows_at_once_what_it_has_ended_itself(
    client: httpx2.AsyncClient, client_with: ClientWith, state: State, session: AsyncSession, user: User, token: str
) -> None:
    tokens = []
    for _ in range(2):
        answer = await client.post("/auth/login", json={"email": user.email, "password": PASSWORD})
        tokens.append(answer.json()["access_token"])
    agent = await create_token(session, await create_agent(session, owner=user))
    clients = [await client_with(each) for each in (*tokens, token, agent)]
    for each in clients:
        assert (await each.get(PATH)).status_code == 200

    async def statuses() -> list[int]:
        return [(await each.get(PATH)).status_code for each in clients]

    await clients[0].post("/auth/logout")
    assert await statuses() == [401, 200, 200, 200]
    token_id = (await clients[1].get("/users/me/tokens")).json()[0]["id"]
    await clients[1].delete(f"/users/me/tokens/{token_id}")
    assert await statuses() == [401, 200, 401, 200]
    await clients[1].delete("/users/me")
    assert await statuses() == [401, 401, 401, 401]


@pytest.mark.usefixtures("watch")
async def test_who_has_been_put_out_elsewhere_cannot_leave_another_way_in_behind(
    client_as: ClientAs, engine: AsyncEngine, user: User
) -> None:
    thief = await client_as(user)
    await thief.get(PATH)
    await execute(engine, "DELETE FROM sessions WHERE id = :id", id=user.id)

    answer = await thief.post("/users/me/tokens", json={"name": "mine", "scopes": ["tasks:read"]})

    assert answer.status_code == 401


async def test_changes_are_purged(serving: Serving, session: AsyncSession, engine: AsyncEngine, user: User) -> None:
    await session.execute(text("DELETE FROM sign_in_changes"))
    await session.execute(text("DELETE FROM sessions"))
    await session.execute(text("UPDATE sign_in_changes SET created_at = now() - interval '61 minutes'"))
    await session.execute(text("UPDATE users SET is_admin = true WHERE id = :id"), {"id": user.id})
    await session.commit()
    await serving.do(purge_sign_in_changes)

    assert list(await session.scalars(text("SELECT subject FROM sign_in_changes"))) == [user.id]


@pytest.fixture(scope="module")
def addresses(system_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Two API processes without Redis, and no relay that would tell them anything."""
    nowhere: Path = tmp_path_factory.mktemp("no-redis") / "socket"
    further = {"REDIS_URL": f"unix://{nowhere}", "LOG_LEVEL": "ERROR"}
    with running_apis(2, system_environment | further) as apis:
        yield [api.base_url for api in apis]


@pytest.fixture
async def processes(addresses: list[str]) -> AsyncIterator[list[httpx2.AsyncClient]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(httpx2.AsyncClient(base_url=address, timeout=PATIENCE))
            for address in addresses
        ]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def let_remember(client: httpx2.AsyncClient, token: str, engine: AsyncEngine) -> None:
    """Until the process answers while nobody can look anything up."""

    async def is_remembered_there() -> bool:
        assert (await client.get(PATH, headers=bearer(token))).status_code == 200
        async with engine.begin() as connection:
            await connection.execute(text("LOCK TABLE users IN ACCESS EXCLUSIVE MODE"))
            try:
                return (await client.get(PATH, headers=bearer(token), timeout=2)).status_code == 200
            except httpx2.TimeoutException:
                return False

    await wait_until_async(is_remembered_there, what="the token to be remembered")


async def until_answered(status: int, path: str, client: httpx2.AsyncClient, token: str) -> None:
    """Wait for less time than the process would remember the token if it noticed nothing."""

    async def is_noticed() -> bool:
        return (await client.get(path, headers=bearer(token))).status_code == status

    await wait_until_async(is_noticed, what=f"a {status}", timeout=REMEMBERED_SECONDS / 2)


def test_a_process_looks_often_enough_to_notice_within_a_second() -> None:
    assert LOOK_SECONDS < TRUSTED_SECONDS < 1


async def test_what_ends_in_one_process_ends_in_the_other_without_redis_and_relay(
    processes: list[httpx2.AsyncClient], engine: AsyncEngine, session: AsyncSession, user: User
) -> None:
    here, there = processes
    body = {"email": user.email, "password": PASSWORD}
    ended = (await here.post("/auth/login", json=body)).json()["access_token"]
    staying = (await here.post("/auth/login", json=body)).json()["access_token"]
    agent = await create_token(session, await create_agent(session, owner=user))
    for token in (ended, staying, agent):
        await let_remember(there, token, engine)

    assert (await here.post("/auth/logout", headers=bearer(ended))).is_success
    await until_answered(401, PATH, there, ended)
    assert (await there.get(PATH, headers=bearer(staying))).status_code == 200

    assert (await here.delete("/users/me", headers=bearer(staying))).is_success
    assert (await here.get(PATH, headers=bearer(staying))).status_code == 401
    await until_answered(401, PATH, there, staying)
    assert (await there.get(PATH, headers=bearer(agent))).status_code == 401


async def test_who_is_made_an_admin_by_hand_is_one_in_each_process(
    processes: list[httpx2.AsyncClient], client_as: ClientAs, engine: AsyncEngine, user: User
) -> None:
    token = (await client_as(user)).headers["Authorization"].removeprefix("Bearer ")
    for process in processes:
        await let_remember(process, token, engine)
        assert (await process.get("/admin/jobs", headers=bearer(token))).status_code == 403

    await execute(engine, "UPDATE users SET is_admin = true WHERE id = :id", id=user.id)

    for process in processes:
        await until_answered(200, "/admin/jobs", process, token)
