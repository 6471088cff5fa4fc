"""What an API process sees to before it serves."""

import gc

from app.api_process import Server, _set_aside_what_stays
from app.config import Settings
from app.main import create_app
from app.websockets.uvicorn_protocol import FrameProtocol


def test_the_collector_of_garbage_does_not_look_at_what_stays() -> None:
    before = gc.get_freeze_count()
    try:
        _set_aside_what_stays()

        assert gc.get_freeze_count() > before
        assert len(gc.get_objects(generation=2)) < gc.get_freeze_count() / 10
    finally:
        gc.unfreeze()


def test_its_sockets_take_frames(settings: Settings) -> None:
    config = Server(create_app(settings)).config
    config.load()

    assert config.ws_protocol_class is FrameProtocol
