"""One user has so many sockets, streams and waiting pages at a process, and no more."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app.config import Settings
from app.core.permissions import Actor
from app.models import User
from app.websockets.seats import Seats, TooManyReaders
from tests.conftest import RunningSystem, token_of
from tests.utils.processes import running_apis
from tests.utils.test_utils import PATIENCE, problem, wait_until_async

pytestmark = pytest.mark.committed

MOST = 3


@pytest.fixture(scope="module")
def small_api(system_environment: dict[str, str]) -> Iterator[RunningSystem]:
    """An API process where each user may have three readers."""
    with running_apis(1, system_environment | {"MAX_SOCKETS_PER_USER": str(MOST)}) as [api]:
        yield RunningSystem(address=api.base_url, sockets=api.sockets)


def client_of(system: RunningSystem, settings: Settings, user: User) -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {token_of(user, settings)}"}
    return httpx2.AsyncClient(base_url=system.address, headers=headers, timeout=PATIENCE)


@pytest.fixture
async def http(small_api: RunningSystem, settings: Settings, user: User) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(small_api, settings, user) as client:
        yield client


@asynccontextmanager
async def socket_of(system: RunningSystem, token: str, *, by_message: bool = False) -> AsyncIterator[ClientConnection]:
    async with connect(system.sockets + ("" if by_message else f"?token={token}"), proxy=None) as socket:
        if by_message:
            await socket.send(json.dumps({"type": "auth", "data": {"token": token}}))
        yield socket


async def is_served(socket: ClientConnection) -> bool:
    """Whether the socket answers, or is closed with the code for too many."""
    try:
        async with asyncio.timeout(PATIENCE):
            await socket.send('{"type": "ping", "data": 1}')
            while json.loads(await socket.recv())["type"] != "pong":
                pass
    except ConnectionClosed as closed:
        if closed.rcvd is None or closed.rcvd.code != 4429:
            raise
        return False
    return True


async def wait_for_event(http: httpx2.AsyncClient) -> None:
    # Whoever looks whether there is a seat left has it for that moment.
    while (await http.get("/events", params={"wait": 30})).status_code == 429:
        pass


@asynccontextmanager
async def all_seats(system: RunningSystem, http: httpx2.AsyncClient, token: str) -> AsyncIterator[ClientConnection]:
    """One reader of each kind. What is given is the socket."""
    async with AsyncExitStack() as stack:
        socket = await stack.enter_async_context(socket_of(system, token))
        assert await is_served(socket)
        stream = await stack.enter_async_context(http.stream("GET", "/events/stream"))
        assert stream.status_code == 200
        page = asyncio.create_task(wait_for_event(http))
        stack.callback(page.cancel)

        async def is_refused() -> bool:
            async with http.stream("GET", "/events/stream") as another:
                return another.status_code == 429

        await wait_until_async(is_refused, what="the page to wait")
        yield socket


@pytest.mark.parametrize("by_message", [False, True], ids=["by address", "by message"])
async def test_one_socket_more_closes_with_4429_and_the_others_go_on(
    small_api: RunningSystem, http: httpx2.AsyncClient, settings: Settings, user: User, by_message: bool
) -> None:
    token = token_of(user, settings)
    async with all_seats(small_api, http, token) as first:
        async with socket_of(small_api, token, by_message=by_message) as another:
            assert not await is_served(another)

        assert await is_served(first)


@pytest.mark.parametrize(("path", "query"), [("/events/stream", {}), ("/events", {"wait": "5"})])
async def test_one_stream_or_waiting_page_more_is_told_when_to_come_again(
    small_api: RunningSystem,
    http: httpx2.AsyncClient,
    settings: Settings,
    user: User,
    path: str,
    query: dict[str, str],
) -> None:
    async with all_seats(small_api, http, token_of(user, settings)):
        refused = await http.get(path, params=query)

    assert problem(refused, 429)["code"] == "too_many_readers"
    assert refused.headers["Retry-After"] == "30"


async def test_who_has_all_seats_still_reads_pages_and_others_have_their_own(
    small_api: RunningSystem, http: httpx2.AsyncClient, settings: Settings, user: User, other_user: User
) -> None:
    async with all_seats(small_api, http, token_of(user, settings)):
        assert (await http.get("/events")).status_code == 200
        async with socket_of(small_api, token_of(other_user, settings)) as socket:
            assert await is_served(socket)


async def test_whoever_leaves_makes_room(
    small_api: RunningSystem, http: httpx2.AsyncClient, settings: Settings, user: User
) -> None:
    token = token_of(user, settings)
    async with all_seats(small_api, http, token):
        pass

    async def are_free() -> bool:
        async with AsyncExitStack() as stack:
            sockets = [await stack.enter_async_context(socket_of(small_api, token)) for _ in range(MOST)]
            return all([await is_served(socket) for socket in sockets])

    await wait_until_async(are_free, what="all seats to be free again")


async def test_of_many_at_once_as_many_are_served_as_there_are_seats(
    small_api: RunningSystem, settings: Settings, user: User
) -> None:
    token = token_of(user, settings)
    async with AsyncExitStack() as stack:
        opening = (stack.enter_async_context(socket_of(small_api, token)) for _ in range(12))
        sockets = await asyncio.gather(*opening)

        served = await asyncio.gather(*map(is_served, sockets))

    assert served.count(True) == MOST


async def test_of_many_streams_at_once_as_many_are_served_as_there_are_seats(
    small_api: RunningSystem, http: httpx2.AsyncClient
) -> None:
    async with AsyncExitStack() as stack:
        opening = (stack.enter_async_context(http.stream("GET", "/events/stream")) for _ in range(12))

        streams = await asyncio.gather(*opening)

    assert [stream.status_code for stream in streams].count(200) == MOST


def test_a_seat_is_free_again_however_its_holder_ends(user: User) -> None:
    seats, actor = Seats(1), Actor.of(user)

    with pytest.raises(ZeroDivisionError), seats.taken_by(actor.id):
        raise ZeroDivisionError
    with seats.taken_by(actor.id):
        with pytest.raises(TooManyReaders), seats.taken_by(actor.id):
            pass
        assert seats.refused == 1
    with seats.taken_by(actor.id):
        pass
