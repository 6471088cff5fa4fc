"""Pages are bounded by bytes: of large rows there are fewer, and the next page goes on where one ends."""

from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.large_answers import PIECE, LargeAnswers
from app.core.permissions import Actor
from app.events import backlog
from app.events.backlog import LogPosition, PageSize, read_backlog
from app.events.filters import EVERYTHING, EventFilter
from app.events.published import read_published
from app.limits import answers
from app.limits.answers import MAX_BYTES_IN_FLIGHT, MAX_PAGE_BYTES, MIN_PAGE_BYTES, AnswersInFlight
from app.models import Event, EventLog, EventType, User
from app.schemas.event import Envelope
from app.services import pages
from tests.builders.tasks import create_task
from tests.utils.serving import Serving

KIB = 1024
# PostgreSQL stores one as it is, and compresses the other to next to nothing.
TEXTS = {"compressible": "a" * 10_000, "many bytes each": "🐝" * 2_500, "quoted": '"' * 10_000}


async def write_events(session: AsyncSession, user: User, *texts: str) -> int:
    """The events are published; the position before them is returned."""
    state = await session.get_one(EventLog, 1)
    start = state.last_seq
    for number, text in enumerate(texts, start + 1):
        session.add(
            Event(
                seq=number,
                type=EventType.CHAT_MESSAGE,
                actor_id=user.id,
                actor_type="user",
                data={"message": text},
            )
        )
    state.last_seq = start + len(texts)
    await session.commit()
    return start


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
async def test_a_page_of_events_has_so_many_bytes(
    serving: Serving, session: AsyncSession, user: User, text: str
) -> None:
    start = await write_events(session, user, *[text] * 9, "short")
    read, position = [], start
    while position < start + 10:
        page = await serving.do(
            read_backlog,
            Actor(user.id, False),
            after=LogPosition(position),
            size=PageSize(100, 25 * KIB),
            wanted=EVERYTHING,
        )
        assert 1 <= len(page.events) <= 3
        assert page.reached == page.events[-1].seq
        position = page.reached
        read += [event.seq for event in page.events]

    assert read == list(range(start + 1, start + 11))


@pytest.mark.parametrize("is_admin", [False, True])
@pytest.mark.parametrize("is_of_task", [False, True])
async def test_a_page_has_the_events_that_there_are(
    serving: Serving,
    session: AsyncSession,
    user: User,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_admin: bool,
    is_of_task: bool,
) -> None:
    monkeypatch.setattr(backlog, "PIECE", 2)
    start = await write_events(session, user, *TEXTS.values(), "{}", "\\u0041")
    written = list(await session.scalars(select(Event).where(Event.seq > start).order_by(Event.seq)))
    for event in written if is_of_task else ():
        event.task_id = user.id
    await session.commit()

    page = await serving.do(
        read_backlog,
        Actor(user.id, is_admin),
        after=LogPosition(start),
        size=PageSize(100),
        wanted=EventFilter(task_id=user.id if is_of_task else None),
    )

    assert [event.envelope() for event in page.events] == [Envelope.of(event) for event in written]
    assert (page.reached, page.head) == (start + 5, start + 5)


async def test_an_event_larger_than_a_page_is_a_page(serving: Serving, session: AsyncSession, user: User) -> None:
    start = await write_events(session, user, "a" * 10_000, "b")
    page = await serving.do(
        read_backlog, Actor(user.id, False), after=LogPosition(start), size=PageSize(100, 1), wanted=EVERYTHING
    )

    assert [event.seq for event in page.events] == [start + 1]
    assert (page.reached, page.head) == (start + 1, start + 2)


async def test_what_all_processes_follow_comes_in_batches_of_so_many_bytes(
    serving: Serving, session: AsyncSession, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.events.published.MAX_PAGE_BYTES", 25 * KIB)
    start = await write_events(session, user, *["a" * 10_000] * 5)

    assert [event.seq for event in await serving.do(read_published, after=start, limit=500)] == [
        start + 1,
        start + 2,
        start + 3,
    ]


async def pages_of(client: httpx2.AsyncClient, path: str) -> list[list[dict[str, Any]]]:
    found, url = [], path
    while url:
        answer = await client.get(url)
        assert answer.status_code == 200
        found.append(answer.json())
        url = answer.links["next"]["url"].removeprefix("/api/v1") if "next" in answer.links else ""
    return found


@pytest.mark.parametrize("path", ["/tasks?limit=50", "/tasks?limit=7", "/tasks?limit=50&sort=due_at"])
async def test_a_list_of_large_tasks_comes_in_shorter_pages(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(answers, "MAX_PAGE_BYTES", 25 * KIB)
    monkeypatch.setattr(answers, "MIN_PAGE_BYTES", 1)
    made = [await create_task(session, owner=user, description="a" * 10_000) for _ in range(7)]

    found = await pages_of(signed_in, path)

    assert [len(page) for page in found] == [3, 3, 1]
    assert sorted(task["id"] for page in found for task in page) == sorted(str(task.id) for task in made)


async def test_a_list_of_small_tasks_has_its_pages_as_asked_for(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    for _ in range(5):
        await create_task(session, owner=user)

    assert [len(page) for page in await pages_of(signed_in, "/tasks?limit=2")] == [2, 2, 1]


async def test_a_long_history_comes_in_shorter_pages(
    signed_in: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_PAGE_BYTES", 25 * KIB)
    task = (await signed_in.post("/tasks", json={"title": "Roses"})).json()["id"]
    for letter in "abcdef":
        await signed_in.patch(f"/tasks/{task}", json={"description": letter * 10_000})

    found = await pages_of(signed_in, f"/tasks/{task}/history?limit=100")

    assert [len(page) for page in found] == [3, 3, 1]
    assert [event["task"]["version"] for page in found for event in page] == [7, 6, 5, 4, 3, 2, 1]


def test_pages_get_shorter_while_many_are_on_their_way() -> None:
    in_flight = AnswersInFlight()
    assert in_flight.page_bytes == MAX_PAGE_BYTES

    with in_flight.holding(MAX_BYTES_IN_FLIGHT - MAX_PAGE_BYTES):
        assert in_flight.page_bytes < MAX_PAGE_BYTES
        with in_flight.holding(MAX_BYTES_IN_FLIGHT):
            assert in_flight.page_bytes == MIN_PAGE_BYTES
    assert in_flight.page_bytes == MAX_PAGE_BYTES


async def test_a_large_answer_is_in_flight_until_it_is_taken(app: FastAPI) -> None:
    in_flight = app.state.hive.answers
    body = bytes(range(256)) * 1024
    sent: list[Any] = []

    async def answer(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def send(message: Any) -> None:
        sent.append((message, in_flight.bytes))

    await LargeAnswers(answer)({"type": "http", "app": app}, None, send)  # type: ignore[arg-type]

    pieces = [message for message, _ in sent[1:]]
    assert b"".join(piece["body"] for piece in pieces) == body
    assert [piece["more_body"] for piece in pieces] == [True] * (len(body) // PIECE - 1) + [False]
    assert {size for _, size in sent[1:]} == {len(body)}
    assert in_flight.bytes == 0
