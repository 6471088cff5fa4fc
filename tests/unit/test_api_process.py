"""What an API process sees to before it serves."""

import gc
import resource

import pytest

from app.config import Settings
from app.main import create_app
from app.processes.api import Server, _set_aside_what_stays, connection_table
from app.websockets.uvicorn_protocol import FrameProtocol
from app.wire.bounds import RESERVED_DESCRIPTORS
from app.wire.connections import Standing
from app.wire.http_protocol import HttpProtocol


def test_the_collector_of_garbage_does_not_look_at_what_stays() -> None:
    before = gc.get_freeze_count()
    # As `hive api` has it while it loads.
    gc.disable()
    try:
        _set_aside_what_stays()

        assert gc.isenabled()
        assert gc.get_freeze_count() > before
        assert len(gc.get_objects(generation=2)) < gc.get_freeze_count() / 10
    finally:
        gc.enable()
        gc.unfreeze()


def test_requests_and_sockets_have_protocols_with_bounds(settings: Settings) -> None:
    config = Server(create_app(settings)).config
    config.load()

    assert config.http_protocol_class is HttpProtocol
    assert config.ws_protocol_class is FrameProtocol


async def test_some_open_files_are_kept_for_the_database(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (300, 300))
    table = connection_table(settings.model_copy(update={"max_connections_per_address": 1000}))
    connections = [Busy() for _ in range(300)]

    admitted = [connection for connection in connections if table.admit(connection, ("192.0.2.1", 1))]

    assert len(admitted) == len(table) == 300 - RESERVED_DESCRIPTORS - settings.database_pool_size
    for connection in admitted:
        table.leave(connection)


class Busy:
    """A connection that waits for its answer."""

    client = None
    standing = Standing.IS_SERVED
    unfinished_bytes = 0
    body_reserve = 0.0

    def check(self, now: float, passed: float) -> None:
        pass

    def evict(self) -> None:
        raise AssertionError("it's served")
