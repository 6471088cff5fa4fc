"""How readers of events end, and what does not wake or mislead them."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx2
import pytest
from websockets.asyncio.client import connect

from app.config import Settings
from app.core.permissions import Actor
from app.events.backlog import BacklogPage, LogPosition, PageSize
from app.events.filters import EventFilter
from app.models import EventType, User
from app.websockets.connection import CloseCode, Connection
from app.websockets.connection_manager import ConnectionManager
from app.websockets.replay import catch_up
from tests.conftest import RunningSystem, token_of
from tests.utils.processes import HiveProcess, free_port, running_apis
from tests.utils.test_utils import PATIENCE, SHORTER_THAN_A_WAIT, problem, wait_until_async

EPOCH = uuid4()
pytestmark = pytest.mark.committed


@pytest.fixture
async def http(running_system: RunningSystem, settings: Settings, user: User) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": f"Bearer {token_of(user, settings)}"}
    async with httpx2.AsyncClient(base_url=running_system.address, headers=headers, timeout=PATIENCE) as client:
        yield client


async def test_a_server_that_stops_ends_pages_and_streams_properly(
    hive_environment: dict[str, str], settings: Settings, user: User
) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    headers = {"Authorization": f"Bearer {token_of(user, settings)}"}
    metrics_port = free_port()
    ports = {"PORT": str(port), "METRICS_PORT": str(metrics_port)}
    with HiveProcess(["-m", "app.cli", "api"], hive_environment | ports) as api:
        async with httpx2.AsyncClient(base_url=f"{address}/api/v1", headers=headers, timeout=PATIENCE) as client:

            async def is_up() -> bool:
                try:
                    return (await client.get(f"{address}/health")).is_success
                except httpx2.TransportError:
                    return False

            await wait_until_async(is_up, what="the API")
            waiting = asyncio.create_task(client.get("/events", params={"wait": 30}))
            async with client.stream("GET", "/events/stream") as stream:
                reading = asyncio.create_task(stream.aread())

                async def are_both_there() -> bool:
                    told = (await client.get(f"http://127.0.0.1:{metrics_port}/metrics")).text
                    return all(f'hive_readers{{kind="{kind}"}} 1.0' in told for kind in ("page", "stream"))

                await wait_until_async(are_both_there, what="the two readers")
                api.process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(SHORTER_THAN_A_WAIT):
                    await reading
                    page = await waiting

        assert (page.status_code, page.json()["events"]) == (200, [])
        api.wait()
        assert "Traceback" not in api.output


async def test_a_server_that_stops_closes_its_sockets_with_1012(
    hive_environment: dict[str, str], settings: Settings, user: User
) -> None:
    with running_apis(1, hive_environment) as [api]:
        async with connect(f"{api.sockets}?token={token_of(user, settings)}", proxy=None) as socket:
            await socket.send('{"type": "ping"}')
            while json.loads(await socket.recv())["type"] != "pong":
                pass

            api.process.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                await socket.wait_closed()

        assert socket.close_code == 1012
        api.process.wait()
        assert "Traceback" not in api.process.output


@pytest.mark.parametrize("path", ["/events", "/events/stream"])
@pytest.mark.parametrize("internal", ["account.deactivated", "sign_in.ended", "log.renewed"])
async def test_what_is_internal_cannot_be_asked_for(http: httpx2.AsyncClient, path: str, internal: str) -> None:
    answer = await http.get(path, params={"types": ["task.created", internal]})

    [fault] = problem(answer, 422)["errors"]
    assert (fault["pointer"].startswith("/types"), fault["code"]) == (True, "enum")
    assert internal not in fault["detail"]


def test_a_filter_of_what_is_internal_admits_nothing() -> None:
    assert EventFilter.of([EventType.ACCOUNT_DEACTIVATED], None).types == frozenset()


async def nothing(_actor: Actor, after: LogPosition, _wanted: EventFilter, _size: PageSize) -> BacklogPage:
    return BacklogPage([], after.seq, after.seq, EPOCH)


async def test_nobody_goes_live_before_the_process_follows_the_log(user: User) -> None:
    connections = ConnectionManager()
    connection = Connection(Actor.of(user), is_live=False)

    catching_up = asyncio.create_task(catch_up(connection, connections, nothing, since=LogPosition(9)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not catching_up.done()
    connections.follow_from(9)

    async with asyncio.timeout(PATIENCE):
        await catching_up
    assert not connection.is_ended


async def test_a_reader_whose_catching_up_breaks_is_closed(user: User) -> None:
    async def fail(_actor: Actor, _after: LogPosition, _wanted: EventFilter, _size: PageSize) -> BacklogPage:
        raise LookupError

    connections = ConnectionManager()
    connections.follow_from(0)
    connection = Connection(Actor.of(user), is_live=False)

    await catch_up(connection, connections, fail, since=LogPosition(0))

    assert (connection.is_ended, connection.close_code) == (True, CloseCode.INTERNAL_ERROR)
