"""uvicorn's protocol of sockets, which also takes frames that are made already.

It relies on how uvicorn's own class names its parts. Under any other server, and under uvicorn's other protocols,
sockets are written to by ASGI alone (`line.py`).
"""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from app.websockets.line import EXTENSION, SERVER


class FrameProtocol(WebSocketsSansIOProtocol):
    # As `writable` says, too, but that is one more object to fetch for each socket and event.
    is_full = False

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
