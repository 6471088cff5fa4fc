"""HIVE below a path, behind proxies that take the path off and ones that leave it there."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any
from urllib.parse import urljoin

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.asyncio.client import connect

from app.api.prefix import PathPrefix
from app.config import Settings
from app.database import Database
from app.main import build_state, create_app
from app.models import User
from tests.builders.tasks import create_task
from tests.conftest import ROOT, token_of
from tests.utils.processes import HiveProcess, answers, free_port
from tests.utils.test_utils import PATIENCE, problem, wait_until

SITE = "https://example.org"
LeadOn = Callable[[str], str]


def proxied(app: ASGIApp, *, prefix: str, takes_off: bool, root_path: str) -> ASGIApp:
    """The application as a server calls it that gets its requests from a proxy."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if not path.startswith(prefix + "/") and path != prefix:
            raise AssertionError(f"{path} leads out of {prefix}")
        path = path.removeprefix(prefix) if takes_off else path
        # As Uvicorn does with `--root-path`.
        await app({**scope, "path": root_path + (path or "/"), "root_path": root_path}, receive, send)

    return serve


@cache
def app_at(public_url: str | None) -> FastAPI:
    """The application of that address, made once: FastAPI takes a while to see through its routes."""
    return create_app(Settings(_env_file=ROOT / ".env.test", public_url=public_url))


@asynccontextmanager
async def below(
    prefix: str, settings: Settings, database: Database, redis_url: str, user: User, *, way: str
) -> AsyncIterator[tuple[httpx2.AsyncClient, FastAPI]]:
    """A client that knows HIVE by its public address alone."""
    is_told = "root path" in way
    placed = settings if is_told else settings.model_copy(update={"public_url": SITE + prefix})
    app = app_at(placed.public_url)
    app.state.hive = build_state(placed, database, redis_url=redis_url)
    served = proxied(app, prefix=prefix, takes_off="takes off" in way, root_path=prefix if is_told else "")
    headers = {"Authorization": f"Bearer {token_of(user, settings)}"}
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(served), base_url=SITE, headers=headers) as client:
        yield client, app
    await app.state.hive.redis.aclose()


WAYS = [
    "PUBLIC_URL, the proxy takes off",
    "PUBLIC_URL, the proxy leaves",
    "root path, the proxy takes off",
    "root path, the proxy leaves",
]


@pytest.mark.parametrize("way", WAYS)
# The last ones begin as paths of HIVE's own do.
@pytest.mark.parametrize("prefix", ["/hive", "/tools/hive", "/api", "/api/v1", "/health", "/docs"])
async def test_what_leads_on_begins_with_the_path(
    settings: Settings, database: Database, redis_url: str, session: AsyncSession, user: User, prefix: str, way: str
) -> None:
    for _ in range(3):
        await create_task(session, owner=user)
    async with below(prefix, settings, database, redis_url, user, way=way) as (client, _):
        api = f"{SITE}{prefix}/api/v1"
        # Without a key, and with one.
        for headers in ({}, {"Idempotency-Key": "k"}):
            made = await client.post(f"{api}/tasks", json={"title": "Orchids"}, headers=headers)
            assert made.status_code == 201, made.text
            assert made.headers["Location"] == f"{prefix}/api/v1/tasks/{made.json()['id']}"
            assert (await client.get(urljoin(api, made.headers["Location"]))).json()["id"] == made.json()["id"]
        for path in ("/tasks", "/users/me/sessions", "/users/me/tokens", "/notifications", "/users"):
            answer = await client.get(f"{api}{path}?limit=1")
            assert answer.status_code == 200, path
            if link := answer.headers.get("Link"):
                [address] = re.findall(r"<([^>]+)>", link)
                assert address.startswith(f"{prefix}/api/v1{path}?limit=1&cursor=")
                assert (await client.get(urljoin(api, address))).status_code == 200
        assert (await client.get(f"{api}/tasks/")).status_code == 200
        assert (await client.head(f"{SITE}{prefix}/health")).status_code == 200
        assert problem(await client.get(f"{SITE}{prefix}/nowhere"), 404)
        refused = await client.put(f"{api}/tasks")
        assert problem(refused, 405)
        assert refused.headers["Allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("prefix", ["/hive", "/api"])
async def test_tokens_and_agents_are_located_below_the_path(
    settings: Settings, database: Database, redis_url: str, user: User, prefix: str, way: str
) -> None:
    async with below(prefix, settings, database, redis_url, user, way=way) as (client, _):
        api = f"{SITE}{prefix}/api/v1"
        token = {"name": "Report", "scopes": ["tasks:read"]}
        for path, body in (("/users/me/tokens", token), ("/agents", {"display_name": "Agent", "scopes": []})):
            made = await client.post(api + path, json=body)

            assert made.headers["Location"].startswith(f"{prefix}/api/v1/users/")
            assert (await client.get(urljoin(api, made.headers["Location"]))).status_code == 200


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("prefix", ["/hive", "/api", "/docs"])
async def test_the_documentation_is_whole_below_the_path(
    settings: Settings, database: Database, redis_url: str, user: User, prefix: str, way: str
) -> None:
    async with below(prefix, settings, database, redis_url, user, way=way) as (client, app):
        page = await client.get(f"{SITE}{prefix}/docs")
        addresses = {a or b for a, b in re.findall(r"(?:src|href)=\"([^\"]+)\"|url: '([^']+)'", page.text)}
        assert len(addresses) == 4
        for address in addresses:
            assert (await client.get(urljoin(f"{SITE}{prefix}/docs", address))).status_code == 200, address

        document = (await client.get(f"{SITE}{prefix}/openapi.json")).json()
        assert document["servers"][0]["url"] == prefix
        assert [each["url"] for each in document["servers"][1:]] == ([] if "root" in way else [SITE + prefix])
        [scheme] = document["components"]["securitySchemes"].values()
        for url in (scheme["flows"]["password"]["tokenUrl"], scheme["flows"]["password"]["refreshUrl"]):
            assert url == f"{prefix}/api/v1/auth/token"
            assert problem(await client.post(urljoin(f"{SITE}{prefix}/openapi.json", url)), 422)
        assert document["paths"] == app.openapi()["paths"]
        assert "servers" not in app.openapi()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("prefix", ["/hive", "/health", "/api"])
async def test_the_path_is_taken_off_once(
    settings: Settings, database: Database, redis_url: str, user: User, prefix: str, way: str
) -> None:
    """A proxy that closes an address of HIVE's closes one, not one for each time that the path may be repeated."""
    async with below(prefix, settings, database, redis_url, user, way=way) as (client, _):
        open_to_admins = await client.get(f"{SITE}{prefix}/metrics")
        # HIVE can't see what a proxy has taken off.
        repeated = prefix * (3 if "takes off" in way else 2)
        answers_to_more = [await client.get(f"{SITE}{more}/metrics") for more in (repeated, repeated + prefix)]

    assert problem(open_to_admins, 403)
    assert all(problem(answer, 404) for answer in answers_to_more)


@pytest.mark.parametrize("path", ["/hive//metrics", "/hive/hive/metrics", "/hive/other/metrics", "/other/hive/metrics"])
async def test_one_of_two_different_paths_is_taken_off(path: str) -> None:
    seen: list[str] = []

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["path"])

    async def nothing(*_: object) -> Any:
        raise AssertionError("nothing is read or written")

    app = PathPrefix(served, prefix="/other", own_paths=["/", "/metrics"])
    await app({"type": "http", "path": "/hive" + path, "root_path": "/hive"}, nothing, nothing)
    await app({"type": "http", "path": "/hive/other/metrics", "root_path": "/hive"}, nothing, nothing)

    assert seen == [path, "/metrics"]


async def test_without_a_path_nothing_is_placed(
    settings: Settings, database: Database, redis_url: str, user: User
) -> None:
    async with below("", settings, database, redis_url, user, way="PUBLIC_URL") as (client, _):
        made = await client.post(f"{SITE}/api/v1/tasks", json={"title": "Orchids"})
        document = (await client.get(f"{SITE}/openapi.json")).json()

    assert made.headers["Location"].startswith("/api/v1/tasks/")
    assert [server["url"] for server in document["servers"]] == ["/", SITE]


@pytest.mark.committed
@pytest.mark.parametrize(
    ("environment", "command"),
    [
        ({"PUBLIC_URL": f"{SITE}:443/hive/"}, ["-m", "app.cli", "api"]),
        ({}, ["-m", "app.cli", "api", "--root-path", "/hive"]),
        ({}, ["-m", "uvicorn", "app.main:app", "--root-path", "/hive", "--port", "PORT"]),
    ],
    ids=["PUBLIC_URL", "hive api --root-path", "uvicorn --root-path"],
)
async def test_sockets_are_below_the_path_too(
    hive_environment: dict[str, str], settings: Settings, user: User, environment: dict[str, str], command: list[str]
) -> None:
    port = free_port()
    arguments = [str(port) if each == "PORT" else each for each in command]
    with HiveProcess(arguments, hive_environment | environment | {"PORT": str(port)}) as api:
        here = f"127.0.0.1:{port}"
        wait_until(lambda: answers(f"http://{here}/health", api), what="the API")
        async with httpx2.AsyncClient(timeout=PATIENCE) as client:
            assert (await client.get(f"http://{here}/hive/health")).status_code == 200
        # A proxy may name HIVE otherwise than the page does.
        options: dict[str, Any] = {"origin": SITE} if environment else {}
        for path in ("/hive/ws", "/hive/api/v1/ws", "/ws"):
            url = f"ws://{here}{path}?token={token_of(user, settings)}"
            async with connect(url, proxy=None, **options) as socket, asyncio.timeout(PATIENCE):
                await socket.send('{"type": "ping"}')
                while json.loads(await socket.recv())["type"] != "pong":
                    pass
