"""One reader of live events: a bounded queue that is filled by the fan-out and emptied by the reader's own task."""

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from uuid import uuid4

from app.core.permissions import Actor, may_read_event
from app.events.filters import EVERYTHING, EventFilter
from app.events.published import PublishedEvent
from app.models import EventType

MAX_QUEUED_MESSAGES = 256
MAX_QUEUED_BYTES = 1024 * 1024
FAREWELL_SECONDS = 2.0
PRESENCE = frozenset({EventType.USER_ONLINE, EventType.USER_OFFLINE})


class ReaderKind(StrEnum):
    """How somebody reads events as they happen."""

    SOCKET = "socket"
    STREAM = "stream"
    PAGE = "page"


class CloseCode:
    """Why HIVE closes a socket (4000 and up are the application's own)."""

    GOING_AWAY = 1001
    INTERNAL_ERROR = 1011
    TRY_AGAIN_LATER = 1013
    TOO_SLOW = 4008
    RESYNC = 4010
    UNAUTHORIZED = 4401
    TOO_MANY_READERS = 4429


@dataclass(frozen=True, slots=True)
class Message:
    """A text on its way out; `seq` is its place in the log, if it has one."""

    text: str
    seq: int | None = None
    is_event: bool = False

    @classmethod
    def of(cls, event: PublishedEvent) -> "Message":
        return cls(event.text, event.seq, is_event=True)

    @property
    def size(self) -> int:
        """Bytes on the wire. Most texts are ASCII, which Python knows of each without looking through it."""
        return len(self.text) if self.text.isascii() else len(self.text.encode())


RESYNC = Message('{"type":"resync"}')


class Connection:
    """A signed-in reader. Only a socket counts as being online.

    Whoever has something to say puts it into the queue and goes on; the reader's own task alone waits for the
    network. A reader that wants what it missed is not live until it has read that from the log.
    """

    def __init__(
        self,
        actor: Actor,
        *,
        wanted: EventFilter = EVERYTHING,
        is_live: bool = True,
        kind: ReaderKind = ReaderKind.SOCKET,
    ) -> None:
        self.id = uuid4()
        self.actor = actor
        self.kind = kind
        self.events_given = 0
        self.is_ended = asyncio.Event()
        self.close_code = 1000
        self.wanted = wanted
        self._is_live = is_live
        self._position = 0
        self._queue: deque[Message] = deque()
        self._queued_bytes = 0
        self._something_to_do = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def deliver(self, event: PublishedEvent) -> None:
        """Queue the event if this reader may have it, wants it, and hasn't got it from the log already."""
        if (
            not self._is_live
            or not self.wanted.admits(event)
            or not may_read_event(self.actor, event.type, event.audience)
        ):
            return
        # That oneself is online or offline is no news to oneself.
        is_about_reader = event.type in PRESENCE and self.actor.id == event.actor_id
        is_repeated = event.seq is not None and event.seq <= self._position
        if not is_about_reader and not is_repeated:
            self.offer(Message.of(event))

    def go_live(self, position: int) -> None:
        """From now on take live events, but none up to this position, for they were read from the log."""
        self._position = position
        self._is_live = True

    def offer(self, message: Message) -> None:
        """Queue a message. A reader that is too far behind is told to start over instead, and closed."""
        if self.is_ended.is_set():
            return
        self._queue.append(message)
        self._queued_bytes += message.size
        self._is_empty.clear()
        self._something_to_do.set()
        if len(self._queue) > MAX_QUEUED_MESSAGES or self._queued_bytes > MAX_QUEUED_BYTES:
            self.start_over(CloseCode.TOO_SLOW)

    def start_over(self, code: int) -> None:
        """Tell the reader to read the state again, in place of all that is queued, and close."""
        self._queue.clear()
        self._queued_bytes = RESYNC.size
        self._queue.append(RESYNC)
        self.end(code)

    async def offer_patiently(self, message: Message) -> None:
        """Queue a message of the log when the reader has taken the ones before, at its own pace."""
        if len(self._queue) >= MAX_QUEUED_MESSAGES // 2 or self._queued_bytes >= MAX_QUEUED_BYTES // 2:
            await self._is_empty.wait()
        self.offer(message)

    def end(self, code: int) -> None:
        """Close once what is queued is written, or a moment later."""
        if not self.is_ended.is_set():
            self.close_code = code
            self.is_ended.set()
            self._something_to_do.set()

    async def next_message(self) -> Message | None:
        """The next in the queue, as soon as there is one; None at the end. One task may ask."""
        while not self._queue:
            self._is_empty.set()
            if self.is_ended.is_set():
                return None
            self._something_to_do.clear()
            await self._something_to_do.wait()
        message = self._queue.popleft()
        self._queued_bytes -= message.size
        return message
