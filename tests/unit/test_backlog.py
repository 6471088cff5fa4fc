"""Pages of events, as they are written."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from app.events.backlog import BacklogPage
from app.events.published import PublishedEvent
from app.models import Event, EventType
from app.schemas.event import Envelope, EventPage

EPOCH = uuid4()


def event_of(seq: int) -> Event:
    return Event(
        id=uuid4(),
        seq=seq,
        type=EventType.CHAT_MESSAGE,
        actor_id=uuid4(),
        actor_type="user",
        data={"message": 'Crème brûlée, "please" 🐝\n'},
        created_at=datetime.now(UTC),
    )


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_page_is_written_as_its_schema_would_write_it(count: int) -> None:
    events = [event_of(seq) for seq in range(1, count + 1)]
    page = BacklogPage([PublishedEvent.of(event) for event in events], reached=count, head=9, epoch=EPOCH)

    expected = EventPage(events=[Envelope.of(event) for event in events], next=count, head=9, epoch=EPOCH)
    assert page.to_json() == expected.model_dump_json()
