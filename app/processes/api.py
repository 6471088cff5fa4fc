"""The process in which an API runs."""

import asyncio
import gc
import resource
import signal
import socket
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app.api.metrics import create_metrics_app
from app.config import Settings
from app.main import create_app
from app.processes.stopping import heeded_stop_signals
from app.state import State
from app.websockets.conversation import MAX_MESSAGE_BYTES
from app.websockets.uvicorn_protocol import FrameProtocol
from app.wire.bounds import RESERVED_DESCRIPTORS
from app.wire.config import WireConfig
from app.wire.connections import ConnectionTable
from app.wire.http_protocol import HttpProtocol

# Each socket is one. Some systems have no limit at all to say, and refuse one that is too high.
MOST_OPEN_FILES = 65_536


class Server(uvicorn.Server):
    """Ends the readers of events before it waits for all requests to end, for theirs would not end by themselves.

    The metrics are answered beside it for as long as it runs, if there is a port for them.
    """

    def __init__(self, app: FastAPI, scrapers: Sequence[socket.socket] = (), *, root_path: str = "") -> None:
        self._connections = connection_table(app.state.settings)
        config = WireConfig(
            app,
            connections=self._connections,
            is_https=app.state.settings.is_https,
            http=HttpProtocol,
            root_path=root_path,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=5,
            ws=FrameProtocol,
            ws_max_size=MAX_MESSAGE_BYTES,
            # Who doesn't answer is gone: within half a minute, as is who doesn't take what was sent.
            ws_ping_interval=10,
            ws_ping_timeout=15,
            # Compression would double the memory of each socket.
            ws_per_message_deflate=False,
        )
        super().__init__(config)
        self._app = app
        self._scrapers = list(scrapers)
        self._metrics: MetricsServer | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._app.state.hive.metrics.endings = self._connections.endings
        if self._scrapers:
            self._metrics = MetricsServer(self._app.state.hive, self._scrapers, self._connections)
        _set_aside_what_stays()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Stop on more signals than uvicorn does, and end by the one that came, as it does."""
        before = {number: signal.signal(number, self.handle_exit) for number in heeded_stop_signals()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._captured_signals:
            signal.raise_signal(self._captured_signals[0])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # uvicorn's own signature.
        # uvicorn cuts off the requests in progress on a second SIGINT. They get their five seconds here.
        self._captured_signals.append(sig)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.hive.sockets.connections.end_streams()
        if self._metrics is not None:
            await self._metrics.end()
        await super().shutdown(sockets)


class MetricsServer(uvicorn.Server):
    """Answers scrapers, on a port of its own and from the state of the API's process."""

    def __init__(self, state: State, listeners: list[socket.socket], connections: ConnectionTable) -> None:
        config = WireConfig(
            create_metrics_app(state),
            connections=connections,
            http=HttpProtocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)
        self._serving = asyncio.create_task(self.serve(sockets=listeners))

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # The API's own server is told, and ends this one.
        yield

    async def end(self) -> None:
        self.should_exit = True
        await self._serving


def serve(
    settings: Settings, listeners: list[socket.socket], scrapers: list[socket.socket], *, root_path: str = ""
) -> bool:
    """Serve until told to stop; whether it came so far as to start."""
    _allow_many_open_files()
    server = Server(create_app(settings), scrapers, root_path=root_path)
    server.run(sockets=listeners)
    return server.started


def connection_table(settings: Settings) -> ConnectionTable:
    """The clients' connections, of which there are never so many that none is left for the database and Redis."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_OPEN_FILES if files == resource.RLIM_INFINITY else files
    reserved = RESERVED_DESCRIPTORS + settings.database_pool_size
    return ConnectionTable(
        most_each=settings.max_connections_per_address,
        # Somebody who allows a process next to nothing gets half of it.
        most=max(most - reserved, most // 2),
        trusted=settings.trusted_proxies,
    )


def _set_aside_what_stays() -> None:
    """Keep the garbage collector from looking again at what is there after the start.

    These are some 200,000 objects. To look through them all takes a tenth of a second, in which nothing else happens.
    """
    gc.collect()
    gc.freeze()
    # `hive api` has switched it off for the start.
    gc.enable()


def _allow_many_open_files() -> None:
    """Take what this account may have. Shells begin with 1,024, and past that nobody could connect any more."""
    present, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN_FILES if most == resource.RLIM_INFINITY else min(most, MOST_OPEN_FILES)
    if present != resource.RLIM_INFINITY and present < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
