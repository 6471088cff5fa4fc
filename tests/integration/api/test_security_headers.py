"""What every answer tells browsers, whatever was asked and becomes of it."""

import base64
import hashlib
import re
from dataclasses import replace

import httpx2
import pytest
from fastapi import FastAPI

from app.api.metrics import create_metrics_app
from app.config import Settings
from app.main import create_app
from tests.utils.callers import client_at

ROOT = "http://hive.test"
ALWAYS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "x-frame-options": "DENY"}


def require_headers(answer: httpx2.Response) -> None:
    for name, value in ALWAYS.items():
        assert answer.headers.get_list(name) == [value], (answer.request.url, name)
    [policy] = answer.headers.get_list("content-security-policy")
    assert policy.startswith("default-src 'none'"), answer.request.url
    assert "frame-ancestors 'none'" in policy


@pytest.mark.committed
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/docs", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/docs/assets/swagger-ui.css", 200),
        ("GET", "/docs/assets/nothing", 404),
        ("GET", "/nothing", 404),
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("GET", "/metrics", 401),
        ("DELETE", "/health", 405),
        ("GET", "/api/v1/tasks", 401),
        ("GET", "/api/v1/dashboard/summary", 200),
        ("GET", "/api/v1/dashboard/summary?surprise=1", 422),
    ],
)
async def test_every_answer_has_them_once(client: httpx2.AsyncClient, method: str, path: str, status: int) -> None:
    answer = await client.request(method, ROOT + path)

    assert answer.status_code == status
    require_headers(answer)


async def test_answers_that_no_route_gives_have_them(client: httpx2.AsyncClient) -> None:
    too_large = await client.post("/auth/login", content=b"", headers={"Content-Length": "9999999"})
    preflight = await client.options(
        "/tasks", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    )

    assert (too_large.status_code, preflight.status_code) == (413, 400)
    require_headers(too_large)
    require_headers(preflight)


async def test_a_fault_of_ours_has_them(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down() -> None:
        raise RuntimeError("made up")

    monkeypatch.setattr(app.state.hive.dashboard_reads, "summarize", break_down)
    async with client_at("198.51.100.1", app) as client:
        answer = await client.get("/dashboard/summary")

    assert answer.status_code == 500
    require_headers(answer)


async def test_the_port_for_scrapers_has_them(app: FastAPI) -> None:
    async with client_at("198.51.100.1", create_metrics_app(app.state.hive)) as client:
        require_headers(await client.get(ROOT + "/metrics"))


@pytest.mark.parametrize(
    ("public_url", "is_told"), [("https://hive.example.org", True), ("http://hive.example.org", False), (None, False)]
)
async def test_https_is_demanded_where_hive_is_reached_by_it(
    settings: Settings, public_url: str | None, is_told: bool
) -> None:
    app = create_app(settings.model_copy(update={"public_url": public_url}))
    async with client_at("198.51.100.1", app) as client:
        answer = await client.get(ROOT + "/health")

    assert ("strict-transport-security" in answer.headers) == is_told


async def test_docs_run_their_own_script_and_no_other(client: httpx2.AsyncClient) -> None:
    answer = await client.get(ROOT + "/docs")

    [script] = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert f"script-src 'self' 'sha256-{digest}';" in policy
    assert "connect-src 'self'" in policy


@pytest.mark.committed
async def test_docs_can_be_switched_off(app: FastAPI, settings: Settings) -> None:
    without = settings.model_copy(update={"docs": "off"})
    quiet = create_app(without)
    quiet.state.hive = replace(app.state.hive, settings=without)
    async with client_at("198.51.100.1", quiet) as client:
        for path in ("/docs", "/openapi.json", "/docs/assets/swagger-ui.css"):
            assert (await client.get(ROOT + path)).status_code == 404
        page = await client.get(ROOT + "/")
        places = await client.get(ROOT + "/", headers={"Accept": "application/json"})

    assert re.findall(r'href="([^"]*)"', page.text) == ["health/ready"]
    assert {*places.json()} == {"name", "version", "health", "api"}
