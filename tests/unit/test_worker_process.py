"""What a worker's process sees to around its work."""

import gc

from celery import signals

from app.workers import process


def test_before_it_forks_the_collector_of_garbage_lets_go_of_what_is_loaded() -> None:
    before = gc.get_freeze_count()
    try:
        signals.worker_before_create_process.send(sender=process)

        assert gc.get_freeze_count() > before
        assert len(gc.get_objects(generation=2)) < gc.get_freeze_count() / 10
    finally:
        gc.unfreeze()
