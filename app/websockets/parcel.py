"""Events that are handed out together, and what of them each reader is to have."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

from app.core.permissions import Visibility
from app.events.filters import EventFilter
from app.events.published import PublishedEvent
from app.models import EventType
from app.websockets.message import Message

# Characters, a fraction of what a queue takes.
LARGEST = 32 * 1024
PRESENCE = frozenset({EventType.USER_ONLINE, EventType.USER_OFFLINE})
# What comes after these is not for all that were there before.
ENDINGS = frozenset(
    {EventType.ACCOUNT_DEACTIVATED, EventType.ACCOUNT_CHANGED, EventType.SIGN_IN_ENDED, EventType.LOG_RENEWED}
)


@dataclass(frozen=True)
class Share:
    """What of a parcel is for a reader, in order. Readers that are to have the same share the one share."""

    messages: Sequence[Message]

    def after(self, position: int) -> "Share":
        """Without what the log has up to there."""
        return Share([message for message in self.messages if message.seq is None or message.seq > position])

    @cached_property
    def first_seq(self) -> int | None:
        return next((message.seq for message in self.messages if message.seq is not None), None)

    @cached_property
    def last_seq(self) -> int | None:
        return next((message.seq for message in reversed(self.messages) if message.seq is not None), None)

    @cached_property
    def frames(self) -> bytes:
        return b"".join(message.frames for message in self.messages)


class Parcel:
    """Some events in order, of which each reader is to have what is for them."""

    def __init__(self, events: Sequence[PublishedEvent]) -> None:
        self.events = events
        self._messages = [Message.of(event) for event in events]

    @property
    def last_seq(self) -> int | None:
        return self.events[-1].seq

    @property
    def concerned(self) -> frozenset[UUID]:
        """Whom something in it is for, or about, in person. All others of the same rights and wishes have the same."""
        return frozenset(user_id for event in self.events for user_id in _concerned_by(event))

    def share_of(self, visibility: Visibility, wanted: EventFilter) -> Share:
        return Share(
            [
                message
                for event, message in zip(self.events, self._messages, strict=True)
                if wanted.admits(event)
                and visibility.reads(event.type, event.audience)
                # That oneself is online or offline is no news to oneself.
                and not (event.type in PRESENCE and event.actor_id == visibility.user_id)
            ]
        )


def _concerned_by(event: PublishedEvent) -> Iterable[UUID]:
    if event.type in PRESENCE:
        return (event.actor_id, *(event.audience or ()))
    return event.audience or ()


def parcels_of(events: Iterable[PublishedEvent]) -> Iterator[Parcel]:
    """The events in parcels that are not too large. One that ends readers is the first of its parcel."""
    together: list[PublishedEvent] = []
    size = 0
    for event in events:
        if together and (size > LARGEST or event.type in ENDINGS):
            yield Parcel(together)
            together, size = [], 0
        together.append(event)
        size += len(event.text)
    if together:
        yield Parcel(together)
