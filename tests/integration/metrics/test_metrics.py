"""Counting requests: by declared path, never by what a stranger wrote, and apart for each application."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.metrics import create_metrics_app
from app.config import Settings
from app.core.permissions import Actor
from app.database import Database
from app.events import outbox
from app.events.types import ChatMessage
from app.main import build_state, create_app
from app.models import Event, EventLog, Job, JobName, JobState, User
from app.state import State
from tests.builders.tasks import create_task
from tests.conftest import ROOT
from tests.utils.metrics import Scrape
from tests.utils.serving import Serving
from tests.utils.test_utils import problem

REQUESTS = "hive_http_requests_total"
DURATIONS = "hive_http_request_duration_seconds"
SERIES = ("bucket", "count", "sum")
LATE = timedelta(seconds=90)


@pytest.fixture
async def scraper(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the port for scrapers, which knows of the application's state."""
    async with client_of(create_metrics_app(app.state.hive)) as client:
        yield client


def client_of(app: FastAPI) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://hive.test")


async def scrape(client: httpx2.AsyncClient) -> Scrape:
    return Scrape(await client.get("/metrics"))


def counted(found: Scrape) -> dict[tuple[str, str, str], float]:
    """How many requests there were by method, route and status, but for the scrapes."""
    labels = [each for each in found.labels(REQUESTS) if each["route"] != "/metrics"]
    return {(each["method"], each["route"], each["status"]): found.value(REQUESTS, **each) or 0 for each in labels}


async def test_requests_are_counted_by_the_declared_path(
    scraper: httpx2.AsyncClient, signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)

    for path in (f"/tasks/{task.id}", f"/tasks/{task.id}/", f"/tasks/{uuid4()}", f"/tasks/{task.id}?all=1", "/health"):
        await signed_in.get(path)
    for path in ("/health", "/docs", "/openapi.json", "/docs/assets/swagger-ui.css", "/docs/assets/none"):
        await signed_in.get(f"http://hive.test{path}")
    await signed_in.delete("/tasks")
    await signed_in.post(f"/tasks/{task.id}/claim")

    one_task = "/api/v1/tasks/{task_id}"
    assert counted(await scrape(scraper)) == {
        ("GET", one_task, "200"): 2,
        ("GET", one_task, "404"): 1,
        ("GET", one_task, "422"): 1,
        ("GET", "/api/v1/health", "200"): 1,
        ("GET", "/health", "200"): 1,
        ("GET", "/docs", "200"): 1,
        ("GET", "/openapi.json", "200"): 1,
        ("GET", "/docs/assets/{path}", "200"): 1,
        ("GET", "/docs/assets/{path}", "404"): 1,
        ("DELETE", "/api/v1/tasks", "405"): 1,
        ("POST", f"{one_task}/claim", "200"): 1,
    }


async def test_what_strangers_make_up_makes_no_series(scraper: httpx2.AsyncClient, client: httpx2.AsyncClient) -> None:
    for number in range(30):
        await client.request(f"BREW{number}", f"http://hive.test/{uuid4()}")
        await client.request("GET", f"/{uuid4()}/{uuid4()}")
        await client.request(f"BREW{number}", "/tasks")
        await client.request("GET", f"/tasks/{uuid4()}")
        await client.request("GET", "/health", params={str(uuid4()): "1"}, headers={"X-Request-ID": str(uuid4())})
    await client.post("/tasks", content=b"x" * (1024 * 1024 + 1))

    assert counted(await scrape(scraper)) == {
        ("other", "none", "404"): 30,
        ("GET", "none", "404"): 30,
        ("other", "/api/v1/tasks", "405"): 30,
        ("GET", "/api/v1/tasks/{task_id}", "401"): 30,
        ("GET", "/api/v1/health", "422"): 30,
        # Too large a body is refused before anyone looks for whom it is.
        ("POST", "none", "413"): 1,
    }


async def test_each_request_has_its_duration(scraper: httpx2.AsyncClient, client: httpx2.AsyncClient) -> None:
    for _ in range(3):
        await client.get("/health")

    found = await scrape(scraper)
    labels = {"method": "GET", "route": "/api/v1/health", "status": "200"}
    assert found.value(f"{DURATIONS}_count", **labels) == 3
    assert 0 < (found.value(f"{DURATIONS}_sum", **labels) or 0) < 10
    assert found.value(f"{DURATIONS}_bucket", le="+Inf", **labels) == 3
    assert not [sample.name for sample in found.samples if sample.name.endswith("_created")]


async def test_a_fault_of_ours_is_counted_as_one(settings: Settings, database: Database, redis_url: str) -> None:
    app = create_app(settings)
    app.state.hive = build_state(settings, database, redis_url=redis_url)

    async def fail() -> None:
        raise LookupError

    app.add_api_route("/broken", fail)
    async with client_of(app) as client, client_of(create_metrics_app(app.state.hive)) as scraper:
        problem(await client.get("/broken"), 500)

        assert counted(await scrape(scraper)) == {("GET", "/broken", "500"): 1}
    await app.state.hive.redis.aclose()


async def test_applications_of_one_process_count_for_themselves(
    routes_app: FastAPI,
    app: FastAPI,
    client: httpx2.AsyncClient,
    settings: Settings,
    database: Database,
    redis_url: str,
) -> None:
    other = build_state(settings, database, redis_url=redis_url)

    await client.get("/health")

    async with client_of(create_metrics_app(app.state.hive)) as ours, client_of(create_metrics_app(other)) as theirs:
        assert counted(await scrape(ours)) == {("GET", "/api/v1/health", "200"): 1}
        assert counted(await scrape(theirs)) == {}
    await other.redis.aclose()


async def test_an_admin_reads_the_same_as_a_scraper(
    scraper: httpx2.AsyncClient, signed_in_admin: httpx2.AsyncClient
) -> None:
    found = Scrape(await signed_in_admin.get("http://hive.test/metrics"))
    other = await scrape(scraper)

    assert found.value("hive_build_info", **other.labels("hive_build_info")[0]) == 1
    names = {sample.name for sample in other.samples}
    assert names - {sample.name for sample in found.samples} <= {REQUESTS, *(f"{DURATIONS}_{of}" for of in SERIES)}
    assert names >= {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/health", 404), ("GET", "/", 404), ("POST", "/metrics", 405), ("GET", "/metrics?all=1", 422)],
)
async def test_the_port_for_scrapers_serves_nothing_else(
    scraper: httpx2.AsyncClient, method: str, path: str, status: int
) -> None:
    problem(await scraper.request(method, path), status)


async def test_the_docs_name_every_metric_and_no_other(scraper: httpx2.AsyncClient, client: httpx2.AsyncClient) -> None:
    await client.get("/health")
    found = {
        sample.name.removesuffix("_bucket") for sample in (await scrape(scraper)).samples if sample.name[:5] == "hive_"
    }

    rows = re.findall(r"^\| `(hive_\w+)` \|", (ROOT / "docs" / "monitoring.md").read_text(), re.MULTILINE)

    assert sorted(rows) == sorted(found - {f"{DURATIONS}_count", f"{DURATIONS}_sum"})


async def test_jobs_are_counted_by_their_states(scraper: httpx2.AsyncClient, session: AsyncSession) -> None:
    for state in (JobState.WAITING, JobState.DEAD, JobState.DEAD):
        session.add(Job(name=JobName.TEST, arguments={}, state=state))
    await session.commit()

    found = await scrape(scraper)

    states = {state.value: found.value("hive_jobs", state=state.value) for state in JobState}
    assert states == {"waiting": 1, "sent": 0, "done": 0, "dead": 2}


@pytest.mark.parametrize("is_numbered", [False, True])
async def test_the_lag_is_the_age_of_what_is_yet_to_be_published(
    scraper: httpx2.AsyncClient, serving: Serving, session: AsyncSession, user: User, is_numbered: bool
) -> None:
    assert (await scrape(scraper)).value("hive_relay_lag_seconds") == 0
    await serving.do(outbox.record, ChatMessage(message="hello?"), actor=Actor.of(user), audience=None)
    await session.execute(update(Event).values(created_at=Event.created_at - LATE))
    if is_numbered:
        await session.execute(update(Event).values(seq=select(EventLog.published_seq + 1).scalar_subquery()))
    await session.commit()

    lag = (await scrape(scraper)).value("hive_relay_lag_seconds")

    assert lag == pytest.approx(LATE.total_seconds(), abs=5)


@pytest.fixture
async def alone(settings: Settings, redis_url: str) -> AsyncIterator[State]:
    """The state of an application whose database is away."""
    database = Database.connect("postgresql://nobody@127.0.0.1:1/none", application="alone", pool_size=1)
    state = build_state(settings, database, redis_url=redis_url)
    yield state
    await state.redis.aclose()
    await database.close()


async def test_without_the_database_the_rest_is_told(alone: State) -> None:
    app = create_metrics_app(alone)
    async with client_of(app) as scraper:
        await scrape(scraper)
        found = await scrape(scraper)

    assert found.value("hive_database_up") == 0
    assert found.value("hive_readers", kind="socket") == 0
    assert found.value(REQUESTS, method="GET", route="/metrics", status="200") == 1
    names = {sample.name for sample in found.samples}
    assert not names & {"hive_jobs", "hive_relay_lag_seconds", "hive_events_published_total"}
