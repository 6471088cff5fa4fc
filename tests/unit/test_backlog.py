"""Pages of events, as they are written."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from app.events.backlog import BacklogPage
from app.events.published import PublishedEvent
from app.models import Event, EventType
from app.schemas.event import Envelope, EventPage

EPOCH = uuid4()


def event_of(seq: int | None, **columns: object) -> Event:
    usual = {
        "id": uuid4(),
        "type": EventType.CHAT_MESSAGE,
        "actor_id": uuid4(),
        "actor_type": "user",
        "data": {"message": 'Crème brûlée, "please" 🐝\n'},
        "created_at": datetime.now(UTC),
    }
    return Event(seq=seq, **usual | columns)


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"task_id": uuid4(), "task_version": 3, "type": EventType.TASK_UPDATED},
        {"task_id": uuid4()},
        {"actor_type": "agent", "audience": [uuid4()]},
        {"created_at": datetime(2026, 11, 28, 10, 0, tzinfo=UTC)},
        {"created_at": datetime(2026, 11, 28, 10, 0, 0, 120_000, tzinfo=UTC)},
        {"data": {"a": [1, 1.5, None, True, {"\u2028": "\x7f\\/"}], "b": {}}},
    ],
)
@pytest.mark.parametrize("seq", [None, 7])
def test_an_event_is_written_as_its_schema_would_write_it(seq: int | None, columns: dict[str, object]) -> None:
    event = event_of(seq, **columns)
    published = PublishedEvent.of(event)

    assert published.text == Envelope.of(event).model_dump_json()
    assert (published.seq, published.type, published.actor_id) == (seq, event.type, event.actor_id)
    assert (published.task_id, published.audience, published.id) == (event.task_id, event.audience, event.id)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_page_is_written_as_its_schema_would_write_it(count: int) -> None:
    events = [event_of(seq) for seq in range(1, count + 1)]
    page = BacklogPage([PublishedEvent.of(event) for event in events], reached=count, head=9, epoch=EPOCH)

    expected = EventPage(events=[Envelope.of(event) for event in events], next=count, head=9, epoch=EPOCH)
    assert page.to_json() == expected.model_dump_json()
