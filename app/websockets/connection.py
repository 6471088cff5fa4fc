"""One socket's outgoing side: a bounded queue and the one task that writes from it."""

import asyncio
from collections import deque
from uuid import uuid4

from starlette.websockets import WebSocket

from app.core.permissions import Actor

MAX_QUEUED_MESSAGES = 256
MAX_QUEUED_BYTES = 1024 * 1024
RESYNC = '{"type":"resync"}'
FAREWELL_SECONDS = 2.0


class CloseCode:
    """Why HIVE closes a socket (4000 and up are the application's own)."""

    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    UNAUTHORIZED = 4401
    TOO_SLOW = 4008


class Connection:
    """A socket of a signed-in user.

    Whoever has something to say puts it into the queue and goes on; the writer alone waits for the network.
    """

    def __init__(self, websocket: WebSocket, actor: Actor) -> None:
        self.id = uuid4()
        self.actor = actor
        self._websocket = websocket
        self._queue: deque[str] = deque()
        self._queued_bytes = 0
        self._something_to_do = asyncio.Event()
        self.is_ended = asyncio.Event()
        self.close_code = 1000

    def offer(self, text: str) -> None:
        """Queue a message. A reader that is too far behind is told to start over instead, and closed."""
        if self.is_ended.is_set():
            return
        self._queue.append(text)
        self._queued_bytes += _size(text)
        self._something_to_do.set()
        if len(self._queue) > MAX_QUEUED_MESSAGES or self._queued_bytes > MAX_QUEUED_BYTES:
            self._queue.clear()
            self._queue.append(RESYNC)
            self.end(CloseCode.TOO_SLOW)

    def end(self, code: int) -> None:
        """Close the socket once what is queued is written, or a moment later."""
        if not self.is_ended.is_set():
            self.close_code = code
            self.is_ended.set()
            self._something_to_do.set()

    async def write(self) -> None:
        """Send what is queued until the end."""
        while True:
            while self._queue:
                text = self._queue.popleft()
                self._queued_bytes -= _size(text)
                await self._websocket.send_text(text)
            if self.is_ended.is_set():
                return
            self._something_to_do.clear()
            await self._something_to_do.wait()


def _size(text: str) -> int:
    """Bytes on the wire. Most texts are ASCII, which Python knows of each without looking through it."""
    return len(text) if text.isascii() else len(text.encode())
