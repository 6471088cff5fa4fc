"""One reader of live events: written to at once where possible, else a bounded queue that its own task empties."""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from uuid import UUID, uuid4

from app.core.permissions import Actor
from app.events.filters import EVERYTHING, EventFilter
from app.websockets.line import Line
from app.websockets.message import RESYNC, Framed, Message
from app.websockets.parcel import Share

MAX_QUEUED_MESSAGES = 256
MAX_QUEUED_BYTES = 1024 * 1024
FAREWELL_SECONDS = 2.0


class ReaderKind(StrEnum):
    """How somebody reads events as they happen."""

    SOCKET = "socket"
    STREAM = "stream"
    PAGE = "page"


class CloseCode:
    """Why HIVE closes a socket (4000 and up are the application's own)."""

    GOING_AWAY = 1001
    TOO_LARGE = 1009
    INTERNAL_ERROR = 1011
    TRY_AGAIN_LATER = 1013
    TOO_SLOW = 4008
    RESYNC = 4010
    UNAUTHORIZED = 4401
    FORBIDDEN = 4403
    TOO_MANY_READERS = 4429


class Connection:
    """A signed-in reader. Only a socket counts as being online.

    Senders hand their messages over and go on; the reader's own task alone waits for the network. While
    that task has nothing to do and the reader's `line` takes something, it's written at once. All else is queued.
    A reader that wants what it missed is not live until it has read that from the log.

    `sign_in_id` is the session or the token that it was opened with, and ends with.

    A process has thousands of them, most of them idle, so what is only needed now and then is only then there.
    """

    def __init__(
        self,
        actor: Actor,
        *,
        sign_in_id: UUID | None = None,
        wanted: EventFilter = EVERYTHING,
        is_live: bool = True,
        kind: ReaderKind = ReaderKind.SOCKET,
    ) -> None:
        self.id = uuid4()
        self.actor = actor
        self.sign_in_id = sign_in_id
        self.kind = kind
        self.line: Line | None = None
        self.events_given = 0
        self.is_ended = False
        self.close_code = 1000
        self.wanted = wanted
        self._is_live = is_live
        self._position = 0
        # It's bounded, so that taking from its front is quick; an empty deque is ten times as large.
        self._queue: list[Message] = []
        self._queued_bytes = 0
        self._idling: asyncio.Future[None] | None = None
        self._until_empty: asyncio.Event | None = None
        self._tell_end: Callable[[], None] | None = None

    def take(self, share: Share) -> None:
        """Hand over what of some events is for this reader, unless it has got that from the log already."""
        if not self._is_live:
            return
        if share.first_seq is not None and share.first_seq <= self._position:
            share = share.after(self._position)
        self._position = share.last_seq or self._position
        if self._is_written(share):
            self.events_given += len(share.messages)
            return
        for message in share.messages:
            self.offer(message)

    def go_live(self, position: int) -> None:
        """From now on take live events, but none up to this position, for they were read from the log."""
        self._position = position
        self._is_live = True

    def offer(self, message: Message) -> None:
        """Hand over a message. A reader that is too far behind is told to start over instead, and closed."""
        if self.is_ended:
            return
        if self._is_written(message):
            self.events_given += message.is_event
            return
        self._queue.append(message)
        self._queued_bytes += message.size
        self._stop_idling()
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
            self._until_empty = asyncio.Event()
            await self._until_empty.wait()
        self.offer(message)

    def skip_queued(self) -> None:
        """Drop what is queued, for a reader that only wants to know that there was something."""
        self._queue.clear()
        self._queued_bytes = 0

    def end(self, code: int) -> None:
        """Close once what is queued is written, or a moment later."""
        if self.is_ended:
            return
        self.close_code = code
        self.is_ended = True
        self._stop_idling()
        if self._tell_end is not None:
            self._tell_end()

    def when_ended(self, tell: Callable[[], None]) -> None:
        """Call this once at the end, or now if it has ended already."""
        self._tell_end = tell
        if self.is_ended:
            tell()

    async def next_message(self) -> Message | None:
        """The next in the queue, as soon as there is one; None at the end. One task may ask."""
        while not self._queue:
            if self._until_empty is not None:
                self._until_empty.set()
            if self.is_ended:
                return None
            self._idling = asyncio.get_running_loop().create_future()
            try:
                await self._idling
            finally:
                self._idling = None
        message = self._queue.pop(0)
        self._queued_bytes -= message.size
        return message

    def _is_written(self, framed: Framed) -> bool:
        """Whether it could be written at once. Not when anything is ahead, be it queued or with the own task."""
        if self.line is None or self._idling is None or self._queue or self.is_ended:
            return False
        return self.line.write_now(framed)

    def _stop_idling(self) -> None:
        if self._idling is not None and not self._idling.done():
            self._idling.set_result(None)
