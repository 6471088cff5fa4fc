"""Reading on after an interruption: every reader gets what it missed, then what comes, once and in order."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import httpx2
import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app.config import Settings
from app.models import User
from tests.conftest import RunningSystem, token_of
from tests.utils.test_utils import PATIENCE, problem

pytestmark = pytest.mark.committed


@pytest.fixture
async def http(running_system: RunningSystem, settings: Settings, user: User) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the running system that `user` is signed in with."""
    headers = {"Authorization": f"Bearer {token_of(user, settings)}"}
    async with httpx2.AsyncClient(base_url=running_system.address, headers=headers, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
async def start(http: httpx2.AsyncClient) -> int:
    """The log's end before the test writes anything."""
    head: int = (await http.get("/events")).json()["head"]
    return head


async def make_tasks(http: httpx2.AsyncClient, count: int) -> list[str]:
    """Make published tasks one after the other; their ids."""
    body = {"title": "Water the orchids", "status": "available"}
    return [(await http.post("/tasks", json=body)).json()["id"] for _ in range(count)]


async def read_all(http: httpx2.AsyncClient, after: int, count: int, **query: Any) -> list[dict[str, Any]]:
    """Page through the log until that many events have come."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE):
        while len(found) < count:
            page = (await http.get("/events", params={"after": after, "wait": 5, **query})).json()
            found += page["events"]
            after = page["next"]
    return found


def tasks_in(events: list[dict[str, Any]]) -> list[str]:
    return [event["task"]["id"] for event in events]


async def socket_events(socket: ClientConnection, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE):
        while len(found) < count:
            message = json.loads(await socket.recv())
            found += [message] if message.get("seq") else []
    return found


async def test_pages_give_the_log_in_order_to_its_end(http: httpx2.AsyncClient, start: int) -> None:
    made = await make_tasks(http, 7)

    events = await read_all(http, start, 7, limit=2)

    assert tasks_in(events) == made
    seqs = [event["seq"] for event in events]
    assert seqs == sorted(set(seqs))
    last = (await http.get("/events", params={"after": seqs[-1]})).json()
    assert (last["events"], last["next"], last["head"]) == ([], seqs[-1], seqs[-1])


async def test_an_empty_page_waits_for_the_next_event(http: httpx2.AsyncClient, start: int) -> None:
    waiting = asyncio.create_task(http.get("/events", params={"after": start, "wait": 30}))
    [made] = await make_tasks(http, 1)

    async with asyncio.timeout(PATIENCE):
        page = (await waiting).json()

    assert tasks_in(page["events"]) == [made]
    assert page["next"] == page["events"][0]["seq"]


async def test_a_page_of_another_history_says_resync(http: httpx2.AsyncClient, start: int) -> None:
    answer = await http.get("/events", params={"after": start + 1_000_000})

    assert problem(answer, 410)["code"] == "resync"


async def test_filters_narrow_what_is_read(
    http: httpx2.AsyncClient, session: AsyncSession, user: User, start: int
) -> None:
    first, second = await make_tasks(http, 2)
    await http.post(f"/tasks/{first}/claim")
    await http.post(f"/tasks/{second}/claim")

    by_type = await read_all(http, start, 2, types="task.assigned")
    by_task = await read_all(http, start, 2, task_id=second)

    assert tasks_in(by_type) == [first, second]
    assert {event["type"] for event in by_type} == {"task.assigned"}
    assert [event["type"] for event in by_task] == ["task.created", "task.assigned"]
    assert problem(await http.get("/events", params={"types": "account.unheard"}), 422)["errors"][0]["in"] == "query"


async def test_nobody_reads_anothers_draft_or_what_is_internal(
    http: httpx2.AsyncClient, running_system: RunningSystem, settings: Settings, other_user: User, start: int
) -> None:
    await http.post("/tasks", json={"title": "Secret"})
    [public] = await make_tasks(http, 1)
    headers = {"Authorization": f"Bearer {token_of(other_user, settings)}"}
    async with httpx2.AsyncClient(base_url=running_system.address, headers=headers, timeout=PATIENCE) as other:
        await http.delete("/users/me")
        await make_tasks(other, 1)

        events = await read_all(other, start, 2)

    assert tasks_in(events)[0] == public
    assert [event["type"] for event in events] == ["task.created", "task.created"]


async def test_a_socket_that_says_since_gets_what_it_missed_and_goes_live(
    http: httpx2.AsyncClient, running_system: RunningSystem, settings: Settings, user: User, start: int
) -> None:
    missed = await make_tasks(http, 5)
    await read_all(http, start, 5)
    async with connect(running_system.sockets, proxy=None) as socket:
        auth = {"token": token_of(user, settings), "since": start}
        await socket.send(json.dumps({"type": "auth", "data": auth}))
        live = await make_tasks(http, 5)

        events = await socket_events(socket, 10)

    assert tasks_in(events) == missed + live
    assert events == await read_all(http, start, 10)


async def test_a_socket_of_another_history_is_told_to_resync(
    running_system: RunningSystem, settings: Settings, user: User, start: int
) -> None:
    url = f"{running_system.sockets}?token={token_of(user, settings)}&since={start + 1_000_000}"
    async with connect(url, proxy=None) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            async with asyncio.timeout(PATIENCE):
                assert json.loads(await socket.recv()) == {"type": "resync"}
                await socket.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4010


async def test_a_stream_of_server_sent_events_replays_and_goes_live(http: httpx2.AsyncClient, start: int) -> None:
    missed = await make_tasks(http, 3)
    await read_all(http, start, 3)

    async with http.stream("GET", "/events/stream", headers={"Last-Event-ID": str(start)}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert (stream.headers["cache-control"], stream.headers["x-accel-buffering"]) == ("no-store", "no")
        async with aclosing(server_sent_events(stream)) as frames:
            events = [await anext(frames) for _ in range(3)]
            live = await make_tasks(http, 2)
            events += [await anext(frames) for _ in range(2)]

    assert tasks_in([event for _, event in events]) == missed + live
    assert [seq for seq, _ in events] == [event["seq"] for _, event in events]


async def server_sent_events(stream: httpx2.Response) -> AsyncGenerator[tuple[int, dict[str, Any]], None]:
    """The id and the data of each event that has an id."""
    seq = None
    async for line in stream.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            seq = int(value)
        elif name == "data" and seq is not None:
            yield seq, json.loads(value)
            seq = None


async def test_the_state_says_from_where_to_read_on(http: httpx2.AsyncClient, start: int) -> None:
    earlier = await make_tasks(http, 3)
    told = await read_all(http, start, 3)

    answer = await http.get("/tasks")

    position = int(answer.headers["Hive-Seq"])
    assert position == told[-1]["seq"]
    assert {task["id"] for task in answer.json()} == set(earlier)
    later = await make_tasks(http, 2)

    assert tasks_in(await read_all(http, position, 2)) == later


@pytest.mark.parametrize("kind", ["socket", "stream", "page"])
async def test_a_reader_that_drops_and_resumes_again_and_again_misses_and_repeats_nothing(
    http: httpx2.AsyncClient, running_system: RunningSystem, settings: Settings, user: User, start: int, kind: str
) -> None:
    total = 120
    writing = asyncio.gather(*(make_tasks(http, total // 4) for _ in range(4)))
    seen: list[dict[str, Any]] = []
    take = {"socket": take_by_socket, "stream": take_by_stream, "page": take_by_page}[kind]

    async with asyncio.timeout(PATIENCE):
        while len(seen) < total:
            position = seen[-1]["seq"] if seen else start
            seen += await take(http, running_system, token_of(user, settings), position)
    made = {task for tasks in await writing for task in tasks}

    seqs = [event["seq"] for event in seen]
    assert seqs == sorted(set(seqs))
    assert len(seen) == total
    assert set(tasks_in(seen)) == made


Take = Callable[[httpx2.AsyncClient, RunningSystem, str, int], Awaitable[list[dict[str, Any]]]]


async def take_by_socket(
    _http: httpx2.AsyncClient, system: RunningSystem, token: str, position: int
) -> list[dict[str, Any]]:
    # A client whose own queue is full stops reading, and does not see the close frame either.
    async with connect(f"{system.sockets}?token={token}&since={position}", proxy=None, max_queue=None) as socket:
        return await socket_events(socket, 5)


async def take_by_stream(
    http: httpx2.AsyncClient, _system: RunningSystem, _token: str, position: int
) -> list[dict[str, Any]]:
    async with (
        http.stream("GET", f"/events/stream?after={position}") as stream,
        aclosing(server_sent_events(stream)) as frames,
    ):
        return [(await anext(frames))[1] for _ in range(5)]


async def take_by_page(
    http: httpx2.AsyncClient, _system: RunningSystem, _token: str, position: int
) -> list[dict[str, Any]]:
    page = await http.get("/events", params={"after": position, "limit": 5, "wait": 5})
    events: list[dict[str, Any]] = page.json()["events"]
    return events
