"""uvicorn's protocol of HTTP, with bounds on all that a client can send before HIVE has read a request.

It relies on how uvicorn's own class names its parts; `tests/unit/test_wire_and_uvicorn.py` tells when these change.
"""

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.wire.backlog import Backlog
from app.wire.bounds import (
    BODY_PIECE_BYTES,
    BODY_RESERVE_SECONDS,
    DIRECT_BYTES,
    DRAIN_SECONDS,
    HEAD_PIECE_BYTES,
    HEAD_SECONDS,
    IDLE_SECONDS,
    MAX_CHUNK_OVERHEAD_BYTES,
    MAX_DRAINED_BYTES,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_REQUESTS_PER_SECOND,
    MAX_URL_BYTES,
    MIN_BODY_BYTES_PER_SECOND,
    MIN_TAKEN_BYTES_PER_SECOND,
    TAKE_RESERVE_SECONDS,
)
from app.wire.config import wire_config
from app.wire.connections import ConnectionTable, Standing
from app.wire.endings import Ending
from app.wire.refusals import (
    BODY_TOO_SLOW,
    EVICTED,
    HEAD_TOO_SLOW,
    HEADERS_TOO_LARGE,
    NO_PLACE,
    NOT_HTTP,
    TOO_MUCH_OVERHEAD,
    URL_TOO_LONG,
    Refusal,
)

# In the scope of a request: tells whether the connection is closed, or about to be.
IS_GONE = "hive_is_gone"
# The table has noted the connection before it was told to go.
NOTED_BY_TABLE = {Ending.NO_PLACE, Ending.EVICTED}


class _Refused(Exception):
    """Ends the parser; what is to be answered is noted before."""


class HttpProtocol(HttpToolsProtocol):
    """What is small, as nearly every request is, is parsed at once. The rest waits for its turn, and is read no faster
    than it's parsed."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.timeout_keep_alive = IDLE_SECONDS  # type: ignore[assignment]  # uvicorn's setting has whole seconds.
        self._wire = wire_config(config)
        self._table: ConnectionTable = self._wire.connections
        self._is_whole = True
        self._refusal = NOT_HTTP
        self._backlog = Backlog()
        # Whether what comes has to wait. It's looked at for each request, all else only when there is a reason.
        self._is_behind = False
        self._is_waiting = False
        self._head_bytes = 0
        self._head_since: float | None = None
        self._body_bytes = 0
        self._chunked_bytes = 0
        self._body_seen = 0
        self.unfinished_bytes = 0
        self.body_reserve = BODY_RESERVE_SECONDS
        self._drain_until: float | None = None
        self._drained_bytes = 0
        self._requests = 0
        self._is_resting = False
        self._unsent_bytes = 0
        self._take_reserve = TAKE_RESERVE_SECONDS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = PacedFlow(transport, self)
        self._head_since = self.loop.time()
        if not self._table.admit(self, self.client):
            self._end(NO_PLACE)

    def connection_lost(self, exc: Exception | None) -> None:
        self._table.leave(self)
        self._forget_unfinished()
        self._backlog.clear()
        super().connection_lost(exc)
        self._forget()

    def data_received(self, data: bytes) -> None:
        if len(data) <= DIRECT_BYTES and not self._is_behind:
            self._parse(data)
        else:
            self._backlog.append(data)
            self._is_behind = True
            self.transport.pause_reading()
            self.go_on()

    def go_on(self) -> None:
        """Parse what waits, or if there is nothing, read on."""
        if self._can_parse():
            if not self._is_waiting:
                self._is_waiting = True
                self._table.turns.wait(self)
        elif not (self._backlog or self._is_held_up() or self.transport.is_closing()):
            self._is_behind = False
            self.transport.resume_reading()

    def work(self) -> bool:
        """Parse a piece of what waits; whether another one can be parsed now."""
        if self._can_parse():
            self._parse(self._backlog.take(HEAD_PIECE_BYTES if self._is_whole else BODY_PIECE_BYTES))
        if self._can_parse():
            return True
        self._is_waiting = False
        self.go_on()
        return False

    def _can_parse(self) -> bool:
        return bool(self._backlog) and not self._is_held_up()

    def _is_held_up(self) -> bool:
        """Whether what came before has to be worked off first."""
        return self._is_resting or self.flow.read_paused

    def _parse(self, data: bytes) -> None:
        was_whole, cycle = self._is_whole, self.cycle
        HttpToolsProtocol.data_received(self, data)
        # Nearly always this was a whole request, and there is nothing to note.
        if not self._is_whole or cycle is self.cycle:
            if self._is_in_head() or (was_whole and self._is_whole):
                self._note_head(len(data))
            elif not was_whole:
                self._note_body(len(data))
        if self._requests > MAX_REQUESTS_PER_SECOND:
            self._rest()

    def _is_in_head(self) -> bool:
        # uvicorn begins a scope with each message, and puts the method in when its headers are complete.
        return self.scope is not None and "method" not in self.scope

    def _note_head(self, size: int) -> None:
        """Count what came of a request whose headers aren't complete, or between requests."""
        self._head_bytes += size
        if self._head_since is None:
            self._head_since = self.loop.time()
        if self._is_in_head() and (self._head_bytes > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS):
            self._end(HEADERS_TOO_LARGE if self.headers or len(self.url) <= MAX_URL_BYTES else URL_TOO_LONG)
        elif self._head_bytes > MAX_HEAD_BYTES:
            self._end(None)

    def _note_body(self, size: int) -> None:
        """Count what came of a body and of what is around it."""
        self._chunked_bytes += size
        if not (self._is_whole or self.transport.is_closing()):
            self.unfinished_bytes += size
            self._table.add_unfinished(size)
        if self._chunked_bytes > MAX_CHUNK_OVERHEAD_BYTES + 2 * self._body_bytes or len(self.headers) > MAX_HEADERS:
            self._end(TOO_MUCH_OVERHEAD)
        elif self._drain_until is not None:
            self._drained_bytes += size
            if self._drained_bytes > MAX_DRAINED_BYTES:
                self._end_unread_body()

    def _forget_unfinished(self) -> None:
        self._table.take_back_unfinished(self.unfinished_bytes)
        self.unfinished_bytes = 0

    def _rest(self) -> None:
        """Take no more requests until the next second."""
        self._is_resting = self._is_behind = True
        self.transport.pause_reading()

    # The parser's callbacks. They come with each request, and `super()` would cost as much as what they add.

    def on_headers_complete(self) -> None:
        if len(self.headers) > MAX_HEADERS:
            self._refusal = HEADERS_TOO_LARGE
            raise _Refused
        if len(self.url) > MAX_URL_BYTES:
            self._refusal = URL_TOO_LONG
            raise _Refused
        self.scope[IS_GONE] = self.transport.is_closing  # type: ignore[literal-required]  # HIVE's own.
        HttpToolsProtocol.on_headers_complete(self)
        self._is_whole = False
        self._head_since = None
        self._head_bytes = self._body_bytes = self._chunked_bytes = self._body_seen = 0
        self.body_reserve = BODY_RESERVE_SECONDS
        self._requests += 1
        if not self.parser.should_upgrade():
            # The trailers of a chunked body are given like headers, which the application has already. Nobody reads
            # them.
            self.headers = []

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        HttpToolsProtocol.on_body(self, body)

    def on_message_complete(self) -> None:
        self._is_whole = True
        self._drain_until = None
        if self.unfinished_bytes:
            self._forget_unfinished()
        HttpToolsProtocol.on_message_complete(self)

    def on_response_complete(self) -> None:
        HttpToolsProtocol.on_response_complete(self)
        if not self._is_whole:
            if self.cycle.response_complete:
                self._drain_until = self.loop.time() + DRAIN_SECONDS
                self._drained_bytes = 0
        elif self._head_since is not None and not self._is_in_head():
            # Blank lines that came meanwhile.
            self._head_since = None

    def handle_websocket_upgrade(self) -> None:
        # What follows the handshake before it's answered is sent too early, and dropped.
        self._backlog.clear()
        self._table.leave(self)
        super().handle_websocket_upgrade()
        self.parser = None  # type: ignore[assignment]  # As uvicorn does when a connection is lost.
        self._forget()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's own words.
        self._end(self._refusal)

    def _forget(self) -> None:
        # Or each would hold the other until garbage is collected.
        if isinstance(self.flow, PacedFlow):
            self.flow.protocol = None

    # What the table of connections asks for

    @property
    def standing(self) -> Standing:
        if self.cycle is not None and not self.cycle.response_complete:
            is_body_awaited = not self._is_whole and self.cycle.more_body
            return Standing.SENDS_BODY if is_body_awaited else Standing.IS_SERVED
        return Standing.NOTHING_ASKED if self.cycle is None or self._is_in_head() else Standing.IDLE

    def evict(self) -> None:
        self._end(EVICTED if self._is_in_head() or not self._is_whole else None)

    def check(self, now: float, passed: float) -> None:
        self._requests = 0
        if self._is_resting:
            self._is_resting = False
            self.go_on()
        if self._drain_until is not None:
            if now > self._drain_until:
                self._end_unread_body()
        elif not self._is_whole:
            self._check_body(passed)
        elif self._head_since is not None and now - self._head_since > HEAD_SECONDS and not self._is_served():
            self._end(HEAD_TOO_SLOW if self._is_in_head() else None)
        if self.flow.write_paused:
            self._check_taking(passed)
        else:
            self.note_taken()

    def _is_served(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _check_body(self, passed: float) -> None:
        came = self._body_bytes - self._body_seen
        self._body_seen = self._body_bytes
        # What HIVE doesn't read at the moment is no fault of the client's.
        if not (self.flow.read_paused or self._backlog or self.cycle.waiting_for_100_continue):
            self.body_reserve += came / MIN_BODY_BYTES_PER_SECOND - passed
            self.body_reserve = min(self.body_reserve, BODY_RESERVE_SECONDS)
            if self.body_reserve < 0:
                self._end(BODY_TOO_SLOW)

    def note_taken(self) -> None:
        """The client has taken so much that there is room for more; what follows is measured anew."""
        self._take_reserve = TAKE_RESERVE_SECONDS
        self._unsent_bytes = 0

    def _check_taking(self, passed: float) -> None:
        unsent = self.transport.get_write_buffer_size()
        taken = max(self._unsent_bytes - unsent, 0)
        self._unsent_bytes = unsent
        self._take_reserve = min(self._take_reserve + taken / MIN_TAKEN_BYTES_PER_SECOND - passed, TAKE_RESERVE_SECONDS)
        if self._take_reserve < 0:
            self._table.endings.note(Ending.ANSWER_NOT_TAKEN, self.client)
            self.transport.abort()

    def _end_unread_body(self) -> None:
        self._table.endings.note(Ending.UNREAD_BODY, self.client)
        self._end(None)

    def _end(self, refusal: Refusal | None) -> None:
        """Close the connection, with an answer if there is a request that has got none yet."""
        if self.transport.is_closing():
            return
        self._backlog.clear()
        self._forget_unfinished()
        cycle = self.cycle if self._is_served() else None
        if refusal is not None:
            if refusal.ending not in NOTED_BY_TABLE:
                self._table.endings.note(refusal.ending, self.client)
            if cycle is None or not cycle.response_started:
                self.transport.write(refusal.answer(is_https=self._wire.is_https))
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self._unset_keepalive_if_required()
        self.transport.close()


class PacedFlow(FlowControl):
    """Reads on only when what was read before is parsed."""

    def __init__(self, transport: asyncio.Transport, protocol: HttpProtocol) -> None:
        super().__init__(transport)
        self.protocol: HttpProtocol | None = protocol

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.protocol is not None:
            self.protocol.note_taken()

    def resume_reading(self) -> None:
        # uvicorn asks for it after each answer, even if many requests that came together wait for theirs.
        if self.read_paused and self.protocol is not None and not self.protocol.pipeline:
            self.read_paused = False
            self.protocol.go_on()
