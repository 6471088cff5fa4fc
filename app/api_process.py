"""The process in which an API runs."""

import resource
import socket
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from app.config import Settings
from app.main import create_app

# Each socket is one. Some systems have no limit at all to say, and refuse one that is too high.
MOST_OPEN_FILES = 65_536


class Server(uvicorn.Server):
    """Ends the readers of events before it waits for all requests to end, for theirs would not end by themselves."""

    def __init__(self, app: FastAPI) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=5,
            ws_max_size=64 * 1024,
            # Compression would double the memory of each socket.
            ws_per_message_deflate=False,
        )
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.hive.sockets.connections.end_streams()
        await super().shutdown(sockets)


def serve(settings: Settings, listener: socket.socket) -> bool:
    """Serve until SIGTERM or SIGINT; whether it came so far as to start."""
    _allow_many_open_files()
    server = Server(create_app(settings))
    server.run(sockets=[listener])
    return server.started


def _allow_many_open_files() -> None:
    """Take what this account may have. Shells begin with 1,024, and past that nobody could connect any more."""
    present, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN_FILES if most == resource.RLIM_INFINITY else min(most, MOST_OPEN_FILES)
    if present != resource.RLIM_INFINITY and present < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
