"""What an API process sees to before it serves."""

import gc

from app.api_process import _set_aside_what_stays


def test_the_collector_of_garbage_does_not_look_at_what_stays() -> None:
    before = gc.get_freeze_count()
    try:
        _set_aside_what_stays()

        assert gc.get_freeze_count() > before
        assert len(gc.get_objects(generation=2)) < gc.get_freeze_count() / 10
    finally:
        gc.unfreeze()
