"""The fixtures: what a test gets by naming it as a parameter.

For readers new to pytest: a fixture is a function that makes a thing and, after its `yield`,
clears it away. Its scope says how long one thing serves: `session` ones are made once per test process, the others for
each test.

How tests are kept apart:

- Each test process has a database and a Redis of its own, built by the real migrations on a real, throw-away
  PostgreSQL. The servers are started when the first test needs one; those in `tests/unit` never do.
- Processes of HIVE that serve many tests (`running_system`, `running_worker`, an API of a module) have another database
  and another Redis, made from `system_environment`. A test that needs one of them has its rows there, and so do its
  `session`, `client` and `settings`; all other tests have theirs where no such process comes. Nobody chooses: the
  fixtures that a test names do.
- A program that a test starts for itself, with `hive_environment`, ends with the test; if not, the test fails.
- An ordinary test runs inside one outer transaction, which is rolled back at its end. The application's own sessions
  run within it and turn their commits into savepoints, so its real `unit_of_work` is at work.
- One connection can't serve concurrent requests, so tests of races, relay, sockets and jobs carry
  `@pytest.mark.committed`: their transactions are real, and the tables are emptied afterwards.

Nobody is signed in by a back door: `client_as(user)` carries a real token.
"""

import math
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from pwdlib import PasswordHash
from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker

from app import embedded
from app.config import Settings
from app.core.logging import configure_logging
from app.core.redis import connect_redis
from app.core.security import issue_token
from app.database import SERVER_SETTINGS, Database
from app.db.limit import ConnectionLimit
from app.db.pool import Connections, DriverPool
from app.embedded import LEAVE_PATIENCE
from app.embedded.folder import Folder
from app.events.published import read_log
from app.main import build_state
from app.models import EventLog, User
from app.reads import dashboard_reads
from app.workers import tasks as worker_tasks
from tests.builders.users import create_user
from tests.utils.driver_connections import ConnectionOfTest
from tests.utils.jobs import WorkerHere
from tests.utils.mail_server import MailServer
from tests.utils.processes import HiveProcess, answers, free_port
from tests.utils.routes import routes
from tests.utils.serving import Serving
from tests.utils.stores import Stores, new_stores, patient_options
from tests.utils.test_utils import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parent.parent
SERVERS_FOLDER = "HIVE_TEST_SERVERS"
# The first of the databases of Redis that belong to running systems, one for each test process.
SYSTEM_REDIS = 16
FUZZ_SECONDS = 3600
# They take some ten, but the machine may be busy.
SHORT_FUZZ_SECONDS = 600

# A developer's own settings must not reach the tests, least of all the address of their database.
for name in Settings.model_fields:
    os.environ.pop(name.upper(), None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos", action="store_true", help="run the reliability scenarios at full scale")
    parser.addoption("--fuzz", action="store_true", help="run the tests that make their input up at full scale")
    parser.addoption("--siege", action="store_true", help="attack for minutes, one attack after the other")
    parser.addoption("--attack", default="", help="which attacks of the siege to make, by their names, with commas")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give those that make their input up the time that they need, and let the longest come first."""
    seconds = FUZZ_SECONDS if config.getoption("--fuzz") else SHORT_FUZZ_SECONDS
    for item in items:
        if item.get_closest_marker("fuzz"):
            item.add_marker(pytest.mark.timeout(seconds))
    # One that came last would keep one test process busy while the others have nothing left to do.
    items.sort(key=lambda item: not _is_long(item))


def _is_long(item: pytest.Item) -> bool:
    """Whether it is a whole system that is damaged, or one test with a great many requests."""
    is_one_of_many = hasattr(item, "callspec")
    is_fuzz = item.get_closest_marker("fuzz") is not None and not is_one_of_many
    return is_fuzz or any(item.get_closest_marker(name) for name in ("reliability", "siege"))


def pytest_configure(config: pytest.Config) -> None:
    """Name the folder of the servers, which are started when a test needs one.

    Each process logs as HIVE's own processes do, whichever test comes first.
    """
    configure_logging(Settings(_env_file=ROOT / ".env.test"), "test")
    # Under nohup it's ignored, and the programs that the tests start would inherit that.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if not hasattr(config, "workerinput"):
        os.environ[SERVERS_FOLDER] = tempfile.mkdtemp(prefix="hive-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Wait for the end of the servers and delete their folder, in the process that distributes the tests."""
    if hasattr(config, "workerinput"):
        # Its end is the end of its wish for them.
        return
    embedded.leave()
    folder = os.environ.pop(SERVERS_FOLDER)
    # They end with the last process that has joined them, and write into their folder until then.
    with suppress(AssertionError):
        wait_until(lambda: embedded.is_unlocked(Folder.at(folder)), timeout=LEAVE_PATIENCE, what="the servers' end")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def worker_number(worker_id: str) -> int:
    """Which of the parallel test processes this is."""
    return 0 if worker_id == "master" else int(worker_id.removeprefix("gw"))


@pytest.fixture(scope="session")
def servers() -> str:
    """The data folder of the throw-away PostgreSQL and Valkey.

    The first test process that needs them starts them, and the others join.
    """
    folder = os.environ[SERVERS_FOLDER]
    embedded.join(folder, durable=False)
    return folder


@pytest.fixture(scope="session")
async def isolated_stores(
    servers: str, worker_number: int, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stores]:
    """The stores at which no process is at work but this one, and what a test starts for itself."""
    async with new_stores(servers, tmp_path_factory.mktemp("data"), redis_number=worker_number) as stores:
        yield stores


@pytest.fixture(scope="session")
async def system_stores(
    servers: str, worker_number: int, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stores]:
    """The stores of the processes that serve more than one test."""
    data_dir = tmp_path_factory.mktemp("system")
    async with new_stores(servers, data_dir, redis_number=SYSTEM_REDIS + worker_number) as stores:
        yield stores


@pytest.fixture
def chosen_stores(request: pytest.FixtureRequest) -> Stores:
    """The stores of the running system for a test that needs one of its processes, the isolated ones for all others."""
    needs_system = "system_environment" in request.fixturenames
    stores: Stores = request.getfixturevalue("system_stores" if needs_system else "isolated_stores")
    return stores


@pytest.fixture
async def stores(request: pytest.FixtureRequest, chosen_stores: Stores) -> AsyncIterator[Stores]:
    """Where this test's rows are. What it commits is deleted when all that it has started has ended."""
    yield chosen_stores
    is_committed = request.node.get_closest_marker("committed") is not None
    if "system_environment" not in request.fixturenames and (
        is_committed or "hive_environment" in request.fixturenames
    ):
        await chosen_stores.until_no_program_is_connected()
    if is_committed:
        await chosen_stores.empty_tables()


@pytest.fixture
def database_url(stores: Stores) -> str:
    return stores.database_url


@pytest.fixture
def redis_url(stores: Stores) -> str:
    return stores.redis_url


@pytest.fixture
def settings(stores: Stores) -> Settings:
    return stores.settings


@pytest.fixture
def engine(stores: Stores) -> AsyncEngine:
    return stores.engine


@pytest.fixture
async def connection(request: pytest.FixtureRequest, engine: AsyncEngine) -> AsyncIterator[AsyncConnection | None]:
    """The one connection of an ordinary test, in the transaction around it; None for a committed one."""
    if request.node.get_closest_marker("committed"):
        yield None
        return
    async with engine.connect() as connection:
        transaction = await connection.begin()
        # SQLAlchemy begins it with its first statement.
        await connection.execute(select(1))
        yield connection
        await transaction.rollback()


@pytest.fixture
def sessions(connection: AsyncConnection | None, engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Makes sessions of SQLAlchemy for the test, which the application has none of."""
    if connection is None:
        return async_sessionmaker(engine, expire_on_commit=False)
    return async_sessionmaker(connection, expire_on_commit=False, join_transaction_mode="create_savepoint")


@pytest.fixture
async def driver_connections(connection: AsyncConnection | None, database_url: str) -> AsyncIterator[Connections]:
    if connection is not None:
        yield ConnectionOfTest(connection)
        return
    pool = DriverPool(ConnectionLimit(patient_options(database_url), most=30, wait_seconds=PATIENCE))
    yield pool
    await pool.close()


@pytest.fixture
def long_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application's own connections wait for a lock as long as a test does, as those that tests share do."""
    monkeypatch.setitem(SERVER_SETTINGS, "lock_timeout", f"{PATIENCE:.0f}s")


@pytest.fixture
def database(driver_connections: Connections) -> Database:
    """The application's way to the database of this test."""
    return Database(driver_connections, search_seconds=PATIENCE)


@pytest.fixture
def worker_here(database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> WorkerHere:
    """Does jobs in this process, when the test says so."""
    worker = WorkerHere(database, settings)
    monkeypatch.setattr(worker_tasks, "process", worker)
    return worker


@pytest.fixture
async def session(sessions: async_sessionmaker[AsyncSession]) -> AsyncIterator[AsyncSession]:
    """The test's own session, to make rows and to look at them. `commit()` in it is seen by the application."""
    async with sessions() as session:
        yield session


@pytest.fixture
def serving(database: Database) -> Serving:
    """Services, each of whose calls is a transaction on the database of this test."""
    return Serving(database)


@pytest.fixture
async def log_head(session: AsyncSession) -> int:
    """The number of the log's last event. What is before it may have been purged."""
    return await session.scalar(select(EventLog.last_seq)) or 0


@pytest.fixture
async def clean_redis(redis_url: str) -> AsyncIterator[None]:
    """Redis without a trace of other tests."""
    redis = connect_redis(redis_url)
    await redis.flushdb()
    yield
    await redis.aclose()


@pytest.fixture(scope="session")
def routes_app() -> FastAPI:
    """The application, made once: FastAPI takes a while to see through its routes. It knows no server yet."""
    return routes()


@pytest.fixture
async def app(
    routes_app: FastAPI, settings: Settings, database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FastAPI]:
    """The application with what it needs to answer this test's requests."""
    # A summary that took long, as on a busy machine, would be kept for the next one who asks.
    monkeypatch.setattr(dashboard_reads, "COSTLY_SECONDS", math.inf)
    async with attached_state(routes_app, settings, database, redis_url):
        yield routes_app


@asynccontextmanager
async def attached_state(app: FastAPI, settings: Settings, database: Database, redis_url: str) -> AsyncIterator[None]:
    """What the lifespan would give the application, but for what runs in the background."""
    app.state.hive = build_state(settings, database, redis_url=redis_url)
    async with database.unit_of_work(is_reading=True) as session:
        app.state.hive.sockets.connections.follow_from((await read_log(session)).last_seq)
    await forget_callers(app.state.hive.redis)
    yield
    await app.state.hive.redis.aclose()


async def forget_callers(redis: Redis) -> None:
    """Limits are at work in every test, and a test must not pay for what others have asked from the same address."""
    if counted := [key async for key in redis.scan_iter("hive:limits:*")]:
        await redis.delete(*counted)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """A client that nobody is signed in with."""
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://hive.test/api/v1") as client:
        yield client


ClientWith = Callable[[str], Awaitable[httpx2.AsyncClient]]
ClientAs = Callable[[User], Awaitable[httpx2.AsyncClient]]


@pytest.fixture
async def client_with(app: FastAPI) -> AsyncIterator[ClientWith]:
    """Makes clients that send a token."""
    async with AsyncExitStack() as stack:

        async def make(token: str) -> httpx2.AsyncClient:
            client = httpx2.AsyncClient(
                transport=httpx2.ASGITransport(app),
                base_url="http://hive.test/api/v1",
                headers={"Authorization": f"Bearer {token}"},
            )
            return await stack.enter_async_context(client)

        yield make


@pytest.fixture
def client_as(client_with: ClientWith, settings: Settings) -> ClientAs:
    """Makes clients that a user is signed in with."""

    async def make(user: User) -> httpx2.AsyncClient:
        return await client_with(token_of(user, settings))

    return make


def token_of(user: User, settings: Settings) -> str:
    """An access token of the session that `create_user` has made."""
    return issue_token(user.id, user.id, key=settings.jwt_key, lifetime=timedelta(minutes=5))


@pytest.fixture
async def user(session: AsyncSession) -> User:
    return await create_user(session, display_name="Ada")


@pytest.fixture
async def other_user(session: AsyncSession) -> User:
    return await create_user(session, display_name="Grace")


@pytest.fixture
async def admin(session: AsyncSession) -> User:
    return await create_user(session, display_name="Root", is_admin=True)


@pytest.fixture
async def signed_in(client_as: ClientAs, user: User) -> httpx2.AsyncClient:
    """A client that `user` is signed in with."""
    return await client_as(user)


@pytest.fixture
async def signed_in_other(client_as: ClientAs, other_user: User) -> httpx2.AsyncClient:
    return await client_as(other_user)


@pytest.fixture
async def signed_in_admin(client_as: ClientAs, admin: User) -> httpx2.AsyncClient:
    return await client_as(admin)


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hashes that passwords are checked against, in order. The check itself is the real one."""
    seen: list[str] = []
    verify = PasswordHash.verify

    def noting(self: PasswordHash, password: str, password_hash: str) -> bool:
        seen.append(password_hash)
        return verify(self, password, password_hash)

    monkeypatch.setattr(PasswordHash, "verify", noting)
    return seen


@pytest.fixture(scope="session")
def mail_server() -> Iterator[MailServer]:
    """What the workers of this test process hand their mail to."""
    with MailServer() as server:
        yield server


@pytest.fixture(scope="session")
def system_environment(system_stores: Stores, mail_server: MailServer) -> dict[str, str]:
    """The environment of processes that serve more than one test.

    A test that needs it, through whichever fixture, has its rows in the stores of these processes.
    """
    return environment_at(system_stores, mail_server)


@pytest.fixture
def hive_environment(stores: Stores, mail_server: MailServer) -> dict[str, str]:
    """The environment in which a test starts programs of HIVE for itself. They have to end with the test."""
    return environment_at(stores, mail_server)


def environment_at(stores: Stores, mail_server: MailServer) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": str(ROOT),
        "ENVIRONMENT": "test",
        "LOG_LEVEL": "INFO",
        "SECRET_KEY": stores.settings.signing_key,
        "JWT_SECRET_KEY": stores.settings.jwt_key,
        "DATABASE_URL": stores.database_url,
        "REDIS_URL": stores.redis_url,
        "HIVE_DATA_DIR": str(stores.settings.data_dir),
        "WORKER_CONCURRENCY": "1",
        "SMTP_URL": f"smtp://127.0.0.1:{mail_server.port}",
        "MAIL_FROM": "HIVE <hive@example.org>",
    }


@pytest.fixture(scope="session")
def running_worker(system_environment: dict[str, str]) -> Iterator[HiveProcess]:
    """A real Celery worker, in a process of its own."""
    command = ["-m", "celery", "-A", "app.workers.celery_app", "worker", "--pool=solo", "--loglevel=INFO"]
    with HiveProcess(command, system_environment) as worker:
        worker.wait_for_output("ready.")
        yield worker


@dataclass(frozen=True)
class RunningSystem:
    """An API and a relay as processes, with stores of their own."""

    address: str
    sockets: str


@pytest.fixture(scope="session")
def system_processes(system_environment: dict[str, str]) -> Iterator[RunningSystem]:
    port = free_port()
    environment = system_environment | {"PORT": str(port), "LOG_LEVEL": "WARNING"}
    address = f"http://127.0.0.1:{port}"
    with (
        HiveProcess(["-m", "app.cli", "api"], environment) as api,
        HiveProcess(["-m", "app.cli", "relay"], system_environment) as relay,
    ):
        relay.wait_for_output("this relay is the active one")
        wait_until(lambda: answers(f"{address}/health", api), what="the API")
        yield RunningSystem(address=f"{address}/api/v1", sockets=f"ws://127.0.0.1:{port}/ws")


@pytest.fixture
async def running_system(system_processes: RunningSystem, redis_url: str) -> RunningSystem:
    """For `committed` tests that need a real server: sockets, presence, the whole way of an event."""
    async with connect_redis(redis_url) as redis:
        await forget_callers(redis)
    return system_processes
