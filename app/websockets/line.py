"""The way from a reader's queue to its socket: with frames that all share, or with what every ASGI server has."""

from typing import Protocol, runtime_checkable

from starlette.websockets import WebSocket, WebSocketDisconnect

from app.websockets.message import Framed, Message

# Where in a socket's scope a server that takes frames has put itself.
EXTENSION = "hive.frames"
SERVER = "server"
ABNORMAL_CLOSURE = 1006


@runtime_checkable
class TakesFrames(Protocol):
    """A server's end of one socket that lets whole frames through as they are."""

    def write_frames(self, frames: bytes) -> bool:
        """Write them without waiting; False, with nothing written, while it's full and when it's closed."""

    async def until_writable(self) -> bool:
        """Until it's full no longer; whether it's still open then."""

    def signed_in(self) -> None:
        """Take what somebody with an account may send, from now on."""


class Line(Protocol):
    """How messages get to one socket."""

    def write_now(self, framed: Framed) -> bool:
        """Write it without waiting; False, with nothing written, when that can't be."""

    async def write(self, message: Message) -> None:
        """Write it as soon as the socket takes it.

        Raises:
            WebSocketDisconnect: the socket is closed.
        """


class FrameLine:
    """Writes the bytes that all sockets share."""

    __slots__ = ("_server",)

    def __init__(self, server: TakesFrames) -> None:
        self._server = server

    def write_now(self, framed: Framed) -> bool:
        try:
            return self._server.write_frames(framed.frames)
        except (OSError, RuntimeError):
            # The fan-out to all others is no place to break. The reader's own task meets the same, and tells of it.
            return False

    async def write(self, message: Message) -> None:
        while not self._server.write_frames(message.frames):
            if not await self._server.until_writable():
                raise WebSocketDisconnect(ABNORMAL_CLOSURE)


class PlainLine:
    """Has the server make a frame of each text, and waits for it, which is all that ASGI offers."""

    __slots__ = ("_websocket",)

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    def write_now(self, _framed: Framed) -> bool:
        return False

    async def write(self, message: Message) -> None:
        await self._websocket.send_text(message.text)


def line_of(websocket: WebSocket) -> Line:
    server = _server_of(websocket)
    return PlainLine(websocket) if server is None else FrameLine(server)


def note_sign_in(websocket: WebSocket) -> None:
    """Tell the server of the socket that its client is somebody with an account."""
    if (server := _server_of(websocket)) is not None:
        server.signed_in()


def _server_of(websocket: WebSocket) -> TakesFrames | None:
    server = websocket.scope.get("extensions", {}).get(EXTENSION, {}).get(SERVER)
    return server if isinstance(server, TakesFrames) else None
