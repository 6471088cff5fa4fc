"""The port for scrapers of a real API process, and what it tells while things happen, hang and end."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from app.config import Settings
from app.models import EventLog, User
from tests.conftest import RunningSystem, token_of
from tests.utils.metrics import Scrape
from tests.utils.processes import HiveProcess, answers, free_port, run_program
from tests.utils.test_utils import PATIENCE, problem, wait_until, wait_until_async

pytestmark = pytest.mark.committed

# A relay that another test has left running waits for the table too.
WAITERS = """
    SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE NOT granted AND relation = 'jobs'::regclass AND application_name LIKE 'hive api%'
"""


@dataclass(frozen=True)
class Api:
    """An API process with a port for scrapers."""

    system: RunningSystem
    metrics: str
    process: HiveProcess


def start_api(environment: dict[str, str], port: int, metrics_port: int) -> HiveProcess:
    ports = {"PORT": str(port), "METRICS_PORT": str(metrics_port), "MAX_SOCKETS_PER_USER": "3"}
    return HiveProcess(["-m", "app.cli", "api"], environment | ports)


@pytest.fixture(scope="module")
def api(system_environment: dict[str, str]) -> Iterator[Api]:
    port, metrics_port = free_port(), free_port()
    with start_api(system_environment, port, metrics_port) as process:
        metrics = f"http://127.0.0.1:{metrics_port}/metrics"
        wait_until(lambda: answers(metrics, process), what="the metrics")
        address = f"http://127.0.0.1:{port}"
        system = RunningSystem(address=f"{address}/api/v1", sockets=f"ws://127.0.0.1:{port}/ws")
        yield Api(system, metrics, process)


@pytest.fixture
async def scraper() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=PATIENCE) as client:
        yield client


async def test_readers_are_told_by_their_kinds_and_what_they_got(
    api: Api,
    running_system: RunningSystem,
    scraper: httpx2.AsyncClient,
    settings: Settings,
    session: AsyncSession,
    user: User,
) -> None:
    token = token_of(user, settings)

    async def look() -> Scrape:
        return Scrape(await scraper.get(api.metrics))

    async def kinds_of(name: str) -> dict[str, float | None]:
        found = await look()
        return {labels["kind"]: found.value(name, **labels) for labels in found.labels(name)}

    async def are_all_there() -> bool:
        return await kinds_of("hive_readers") == {"socket": 1, "stream": 1, "page": 1}

    async def are_all_gone() -> bool:
        return await kinds_of("hive_readers") == {"socket": 0, "stream": 0, "page": 0}

    before = await kinds_of("hive_events_delivered_total")
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            httpx2.AsyncClient(
                base_url=api.system.address, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE
            )
        )
        # Who comes and goes meanwhile is not counted.
        wanted = {"types": "task.created"}
        address = f"{api.system.sockets}?token={token}&types=task.created"
        socket = await stack.enter_async_context(connect(address, proxy=None))
        stream = await stack.enter_async_context(http.stream("GET", "/events/stream", params=wanted))
        page = asyncio.create_task(http.get("/events", params={"wait": 30, **wanted}))
        await wait_until_async(are_all_there, what="all three readers")
        async with connect(f"{api.system.sockets}?token={token}", proxy=None) as another:
            with pytest.raises(ConnectionClosed):
                await another.recv()

        # Of the other process, so that it has to come by the relay.
        made = await http.post(f"{running_system.address}/tasks", json={"title": "Roses", "status": "available"})

        assert made.status_code == 201
        async with asyncio.timeout(PATIENCE):
            assert len((await page).json()["events"]) == 1
            assert json.loads(await socket.recv())["type"] == "task.created"
            assert "task.created" in await anext(stream.aiter_text())
    await wait_until_async(are_all_gone, what="all readers to be gone")
    after = await kinds_of("hive_events_delivered_total")
    assert {kind: (after[kind] or 0) - (before[kind] or 0) for kind in after} == {"socket": 1, "stream": 1, "page": 1}
    found = await look()
    assert (found.value("hive_readers_refused_total") or 0) >= 1
    state = await session.get_one(EventLog, 1)
    assert found.value("hive_events_published_total") == state.published_seq


async def test_connections_that_the_server_refuses_are_told(api: Api, scraper: httpx2.AsyncClient) -> None:
    address = urlsplit(api.system.address)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(b"hello\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    writer.close()

    found = Scrape(await scraper.get(api.metrics))

    assert (found.value("hive_connections_refused_total", reason="not_http") or 0) >= 1


async def test_a_locked_table_delays_no_scrape_for_long_and_costs_one_connection(
    api: Api, scraper: httpx2.AsyncClient, engine: AsyncEngine, session: AsyncSession
) -> None:
    async with engine.begin() as migrating:
        await migrating.execute(text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"))
        async with asyncio.timeout(PATIENCE):
            scrapes = await asyncio.gather(*(scraper.get(api.metrics) for _ in range(5)))
        waiting = await session.scalar(text(WAITERS))

    for answer in scrapes:
        found = Scrape(answer)
        assert found.value("hive_database_up") == 0
        assert found.value("hive_jobs", state="waiting") is None
        assert (found.value("process_resident_memory_bytes") or 0) > 0
    assert waiting == 1

    async def is_up() -> bool:
        return Scrape(await scraper.get(api.metrics)).value("hive_database_up") == 1

    await wait_until_async(is_up, what="the database to be up again")


async def test_the_api_itself_tells_the_metrics_to_admins_alone(
    api: Api, scraper: httpx2.AsyncClient, settings: Settings, user: User, admin: User
) -> None:
    address = api.system.address.replace("/api/v1", "/metrics")
    headers = {each: {"Authorization": f"Bearer {token_of(each, settings)}"} for each in (user, admin)}

    anonymous = await scraper.get(address)
    usual = await scraper.get(address, headers=headers[user])
    found = Scrape(await scraper.get(address, headers=headers[admin]))

    assert problem(anonymous, 401)["code"] == "unauthorized"
    assert problem(usual, 403)["code"] == "admins_only"
    assert found.value("hive_http_requests_total", method="GET", route="/metrics", status="403") == 1


async def test_the_port_for_scrapers_ends_with_the_api(hive_environment: dict[str, str]) -> None:
    port, metrics_port = free_port(), free_port()
    with start_api(hive_environment, port, metrics_port) as process:
        metrics = f"http://127.0.0.1:{metrics_port}/metrics"
        await asyncio.to_thread(wait_until, lambda: answers(metrics, process), what="the metrics")
        async with httpx2.AsyncClient(timeout=PATIENCE) as kept_alive:
            await kept_alive.get(metrics)

            process.process.send_signal(signal.SIGTERM)
            code = await asyncio.to_thread(process.wait, 10)

        assert code in {0, -signal.SIGTERM}
        assert "Traceback" not in process.output
        with pytest.raises(httpx2.TransportError):
            httpx2.get(metrics, timeout=PATIENCE)


def refused(command: str, environment: dict[str, str]) -> str:
    """What the command says that can't start: one sentence, with exit code 1."""
    outcome = run_program(["-m", "app.cli", command], environment)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert outcome.stderr.count("\n") == 1
    return outcome.stderr


@pytest.mark.parametrize("command", ["api", "run"])
def test_a_busy_port_for_scrapers_is_told_in_a_sentence(hive_environment: dict[str, str], command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        metrics_port = other.getsockname()[1]
        ports = {"PORT": str(free_port()), "METRICS_PORT": str(metrics_port)}

        told = refused(command, hive_environment | ports)

    assert told.startswith(f"hive: can't listen on 127.0.0.1:{metrics_port}: ")
    assert told.endswith("Set METRICS_HOST or METRICS_PORT.\n")


@pytest.mark.parametrize("command", ["api", "run"])
def test_one_port_for_both_is_told_in_a_sentence(hive_environment: dict[str, str], command: str) -> None:
    port = str(free_port())

    told = refused(command, hive_environment | {"PORT": port, "METRICS_PORT": port})

    assert told.endswith("Set METRICS_HOST or METRICS_PORT.\n")


def test_a_second_api_process_has_a_port_of_its_own_or_says_so(hive_environment: dict[str, str], api: Api) -> None:
    taken = api.metrics.removeprefix("http://127.0.0.1:").removesuffix("/metrics")

    told = refused("api", hive_environment | {"PORT": str(free_port()), "METRICS_PORT": taken})
    metrics_port = free_port()
    with start_api(hive_environment, free_port(), metrics_port) as second:
        metrics = f"http://127.0.0.1:{metrics_port}/metrics"
        wait_until(lambda: answers(metrics, second), what="the metrics of the second process")

    assert f":{taken}: " in told


def test_without_the_setting_only_the_api_listens(hive_environment: dict[str, str]) -> None:
    port = free_port()
    with HiveProcess(["-m", "app.cli", "api"], hive_environment | {"PORT": str(port)}) as process:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/health", process), what="the API")

        assert process.listening_ports() == {port}
