"""uvicorn's protocol of sockets, which also takes frames that are made already, and bounds what a client may send.

It relies on how uvicorn's own class names its parts; `tests/unit/test_wire_and_uvicorn.py` tells when these change.
Under any other server, and under uvicorn's other protocols, sockets are written to by ASGI alone (`line.py`).
"""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State

from app.limits.budget import TokenBucket
from app.websockets.line import EXTENSION, SERVER
from app.wire.backlog import Backlog
from app.wire.bounds import (
    FRAME_BYTES_PER_SECOND,
    FRAMES_PER_SECOND,
    FRAMES_PIECE_BYTES,
    MAX_BYTES_BEFORE_SIGN_IN,
    MAX_EXCESS_SECONDS,
    MAX_FRAGMENTS,
    MAX_FRAME_BYTES_AT_ONCE,
    MAX_FRAMES_AT_ONCE,
)
from app.wire.config import wire_config
from app.wire.connections import ConnectionTable, Standing
from app.wire.endings import Ending
from app.wire.refusals import BAD_HANDSHAKE, HEADERS_TOO_LARGE, OTHER_PROTOCOL, STOPS, Refusal

POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013
# So that a client which is over its budget is not looked at for every single frame.
SHORTEST_REST = 0.25


class FrameProtocol(WebSocketsSansIOProtocol):
    # As `writable` says, too, but that is one more object to fetch for each socket and event.
    is_full = False
    _is_waiting = False
    _is_signed_in = False
    _is_counted_apart = False
    _early_bytes = 0
    _excess_since: float | None = None
    _rest: asyncio.TimerHandle | None = None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._wire = wire_config(config)
        self._table: ConnectionTable = self._wire.connections
        self._backlog = Backlog()
        now = self.loop.time()
        self._frame_budget = TokenBucket(FRAMES_PER_SECOND, MAX_FRAMES_AT_ONCE, now)
        self._byte_budget = TokenBucket(FRAME_BYTES_PER_SECOND, MAX_FRAME_BYTES_AT_ONCE, now)

    # What is sent

    def write_frames(self, frames: bytes) -> bool:
        if self.is_full or self._is_closing():
            return False
        self.transport.write(frames)
        return True

    async def until_writable(self) -> bool:
        await self.writable.wait()
        return not (self.disconnected or self._is_closing())

    def pause_writing(self) -> None:
        self.is_full = True
        super().pause_writing()

    def resume_writing(self) -> None:
        self.is_full = False
        super().resume_writing()
        self._go_on()

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        # What came while the handshake wasn't answered.
        self._go_on()

    # What is received

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self._table.admit(self, self.client):
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_counted_apart:
            self._table.sign_out()
        else:
            self._table.leave(self)
        self._backlog.clear()
        if self._rest is not None:
            self._rest.cancel()
        super().connection_lost(exc)

    def signed_in(self) -> None:
        """Take what somebody with an account may send, from now on."""
        if not (self._is_signed_in or self.disconnected):
            self._is_signed_in = True
            self._is_counted_apart = self._table.sign_in(self)
            self._read_next_message()

    def data_received(self, data: bytes) -> None:
        if not self.handshake_initiated:
            self._shake_hands(data)
        elif self._backlog or len(data) > FRAMES_PIECE_BYTES or self._is_held_up() or self._seconds_over():
            self._backlog.append(data)
            self.transport.pause_reading()
            self._go_on()
        else:
            self._feed(data)

    async def receive(self) -> ASGIReceiveEvent:
        # In place of uvicorn's own, which would read on before the backlog is parsed.
        message = await self.queue.get()
        # A client that has signed in may say more when that is known to be true.
        if self._is_signed_in or message["type"] != "websocket.receive":
            self._read_next_message()
        return message

    def work(self) -> bool:
        """Parse a piece of what waits; whether another one can be parsed now."""
        if self._can_parse():
            self._feed(self._backlog.take(FRAMES_PIECE_BYTES))
        if self._can_parse():
            return True
        self._is_waiting = False
        self._go_on()
        return False

    def handle_events(self) -> None:
        self._frame_budget.spend(len(self.conn.events), self.loop.time())
        super().handle_events()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MAX_FRAGMENTS:
            self._refuse(Ending.TOO_MANY_FRAGMENTS)
        else:
            super().handle_cont(event)

    def _read_next_message(self) -> None:
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self._go_on()

    def _shake_hands(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # The parser has refused it, and uvicorn leaves that answer, if there is one, where it is.
            is_too_large = b"".join(self.conn.data_to_send()).startswith(b"HTTP/1.1 431 ")
            self._answer(HEADERS_TOO_LARGE if is_too_large else BAD_HANDSHAKE)

    def handle_connect(self, event: Request) -> None:
        status = self.conn.accept(event).status_code
        if status == HTTPStatus.SWITCHING_PROTOCOLS:
            super().handle_connect(event)
            return
        self.handshake_initiated = self.handshake_complete = self.close_sent = True
        self._answer(OTHER_PROTOCOL if status == HTTPStatus.UPGRADE_REQUIRED else BAD_HANDSHAKE)

    def send_500_response(self) -> None:
        # In place of uvicorn's own, for a handshake that nobody will answer any more.
        if not self.handshake_complete:
            self.handshake_complete = True
            self._answer(STOPS)

    def _answer(self, refusal: Refusal) -> None:
        self._table.endings.note(refusal.ending, self.client)
        self.transport.write(refusal.answer(is_https=self._wire.is_https))
        self.transport.close()

    def _feed(self, data: bytes) -> None:
        if not self._is_signed_in:
            self._early_bytes += len(data)
            if self._early_bytes > MAX_BYTES_BEFORE_SIGN_IN:
                self._refuse(Ending.TOO_MUCH_BEFORE_SIGN_IN)
                return
        self._byte_budget.spend(len(data), self.loop.time())
        super().data_received(data)

    def _go_on(self) -> None:
        """Parse what waits, as far as the budget allows it, or if there is nothing, read on."""
        if self._rest is not None or self._is_held_up() or self._is_closing() or self._is_waiting:
            return
        if seconds := self._seconds_over():
            self._take_a_rest(seconds)
        elif self._backlog:
            self._is_waiting = True
            self._table.turns.wait(self)
        else:
            self._excess_since = None
            self.transport.resume_reading()

    def _can_parse(self) -> bool:
        return bool(self._backlog) and not (self._is_held_up() or self._is_closing() or self._seconds_over())

    def _is_held_up(self) -> bool:
        """Whether the application, or the client itself, has to take something first."""
        return self.read_paused or self.is_full or not self.handshake_complete

    def _seconds_over(self) -> float:
        """How long it takes until the client may send again."""
        now = self.loop.time()
        return max(self._frame_budget.seconds_in_debt(now), self._byte_budget.seconds_in_debt(now))

    def _take_a_rest(self, seconds: float) -> None:
        now = self.loop.time()
        if self._excess_since is None:
            self._excess_since = now
        if now - self._excess_since > MAX_EXCESS_SECONDS:
            self._refuse(Ending.TOO_MANY_FRAMES)
        else:
            self._rest = self.loop.call_later(max(seconds, SHORTEST_REST), self._end_rest)

    def _end_rest(self) -> None:
        self._rest = None
        self._go_on()

    def _refuse(self, ending: Ending) -> None:
        """Close the socket for what it has sent, and say why."""
        if not self._is_closing():
            self._table.endings.note(ending, self.client)
        self._close(ending.replace("_", " "), code=POLICY_VIOLATION)

    def _close(self, reason: str, *, code: int) -> None:
        self._backlog.clear()
        if self._is_closing():
            return
        if self.conn.state is State.OPEN:
            self.conn.fail(code, reason)
            self.handle_parser_exception()
        else:
            self.transport.close()

    # What the table of connections asks for

    unfinished_bytes = 0
    body_reserve = 0.0

    @property
    def standing(self) -> Standing:
        # Of a crowd that comes back at once each would put out another one that is about to be let in.
        return Standing.IS_SERVED if self._early_bytes or self._has_token() else Standing.NOTHING_ASKED

    def _has_token(self) -> bool:
        return self.handshake_initiated and b"token=" in self.scope["query_string"]

    def check(self, now: float, passed: float) -> None:
        """Nothing: the application waits for the sign-in, and uvicorn for answers to its pings."""

    def evict(self) -> None:
        self._close("too many connections from this address", code=TRY_AGAIN_LATER)

    async def run_asgi(self) -> None:
        extensions = self.scope["extensions"]
        extensions[EXTENSION] = {SERVER: self}
        try:
            await super().run_asgi()
        finally:
            # Or each would hold the other, and a socket that is gone would stay until garbage is collected.
            del extensions[EXTENSION]

    def _is_closing(self) -> bool:
        # The client's own close, a lost connection and a stopping server all close the transport at once.
        return self.close_sent or self.transport.is_closing()
