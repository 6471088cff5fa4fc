"""`HEAD` wherever there is a `GET`: the same headers, and no body."""

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.metrics import create_metrics_app
from app.config import Settings
from app.models import TaskStatus, User
from tests.builders.tasks import create_task
from tests.conftest import ClientAs, RunningSystem, token_of
from tests.utils.routes import document
from tests.utils.test_utils import PATIENCE, problem

HERE = "http://hive.test"
STREAM = "/api/v1/events/stream"
# They differ from one answer to the next.
OF_THE_MOMENT = {"x-request-id", "date", "ratelimit"}
BESIDES_THE_DOCUMENT = ["/docs", "/openapi.json", "/docs/assets/swagger-ui.css", "/docs/assets/none.css", "/nowhere"]


def headers_of(answer: httpx2.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in OF_THE_MOMENT}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, frozenset[str]]]:
    for path, methods in document["paths"].items():
        yield path, frozenset(method.upper() for method in methods)


async def test_head_answers_as_get_does_at_every_address(
    client_as: ClientAs, session: AsyncSession, admin: User
) -> None:
    task = await create_task(session, owner=admin, status=TaskStatus.AVAILABLE)
    client = await client_as(admin)
    paths = [path for path, methods in operations(document()) if "GET" in methods]
    assert len(paths) > 20
    for path in [*paths, *BESIDES_THE_DOCUMENT, "/api/v1/tasks?limit=1", "/api/v1/tasks/", "/api/v1/tasks?limt=1"]:
        if path in (STREAM, "/metrics"):
            continue
        address = HERE + re.sub(r"\{\w+\}", str(admin.id if "user_id" in path else task.id), path)

        asked, told = await client.head(address), await client.get(address)

        assert asked.content == b"", path
        assert asked.status_code == told.status_code, path
        if "ready" not in path and told.headers["content-type"] != "text/plain":
            assert headers_of(asked) == headers_of(told), path


async def test_head_is_refused_as_get_is(client: httpx2.AsyncClient) -> None:
    asked, told = await client.head("/tasks"), await client.get("/tasks")

    assert (asked.status_code, asked.content) == (401, b"")
    assert headers_of(asked) == headers_of(told)


async def test_head_of_a_version_that_one_has_is_not_modified(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    etag = (await signed_in.head(f"/tasks/{task.id}")).headers["ETag"]

    assert (await signed_in.head(f"/tasks/{task.id}", headers={"If-None-Match": etag})).status_code == 304


async def test_allow_names_the_methods_that_are_answered(client_as: ClientAs, admin: User) -> None:
    client = await client_as(admin)
    for path, methods in operations(document()):
        address = HERE + re.sub(r"\{\w+\}", str(admin.id), path)
        expected = methods | ({"HEAD"} if "GET" in methods else set())
        absent = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} - expected

        answers = [await client.request(method, address) for method in absent]

        refusals = [answer for answer in answers if answer.status_code == 405]
        assert refusals, path
        for answer in refusals:
            assert set(answer.headers["Allow"].split(", ")) >= expected, path
            assert ("GET" in answer.headers["Allow"]) == ("HEAD" in answer.headers["Allow"]), path
    assert (await client.post(f"{HERE}/docs")).headers["Allow"] == "GET, HEAD"


async def test_head_of_the_metrics_is_answered_at_both_ports(app: FastAPI, client_as: ClientAs, admin: User) -> None:
    client = await client_as(admin)
    scrapers = httpx2.AsyncClient(transport=httpx2.ASGITransport(create_metrics_app(app.state.hive)))

    answers = [await client.head(f"{HERE}/metrics"), await scrapers.head(f"{HERE}/metrics")]

    for answer in answers:
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"].startswith("text/plain")
        assert int(answer.headers["content-length"]) > 100


@pytest.mark.committed
async def test_head_of_a_stream_ends_with_its_headers(
    running_system: RunningSystem, settings: Settings, user: User
) -> None:
    """A server that waited for the next event would answer after seconds, and keep the seat."""
    headers = {"Authorization": f"Bearer {token_of(user, settings)}"}
    async with httpx2.AsyncClient(base_url=running_system.address, headers=headers, timeout=PATIENCE) as client:
        # More than one user has seats for.
        for _ in range(30):
            answer = await client.head("/events/stream")

            assert (answer.status_code, answer.content) == (200, b"")
            assert answer.headers["content-type"].startswith("text/event-stream")


@pytest.mark.committed
async def test_a_connection_serves_further_requests_after_head(
    running_system: RunningSystem, settings: Settings, user: User
) -> None:
    headers = {"Authorization": f"Bearer {token_of(user, settings)}"}
    async with httpx2.AsyncClient(base_url=running_system.address, headers=headers, timeout=PATIENCE) as client:
        for path in ("/health", "/tasks", "/users/me", "/nowhere"):
            asked, told = await client.head(path), await client.get(path)

            assert asked.content == b""
            assert asked.headers["content-length"] == told.headers["content-length"] == str(len(told.content))
        assert problem(await client.request("PUT", "/health"), 405)
