"""What a worker's process sees to around its work."""

import gc
import signal

import pytest
from celery import signals
from celery.apps.worker import install_worker_restart_handler  # type: ignore[attr-defined]

from app.processes.stopping import STOP_SIGNALS
from app.workers import process, stopping
from app.workers.celery_app import celery_app
from app.workers.pools import refuse_what_does_not_work


def test_before_it_forks_the_collector_of_garbage_lets_go_of_what_is_loaded() -> None:
    before = gc.get_freeze_count()
    try:
        signals.worker_before_create_process.send(sender=process)

        assert gc.get_freeze_count() > before
        assert len(gc.get_objects(generation=2)) < gc.get_freeze_count() / 10
    finally:
        gc.unfreeze()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"pool_cls": "threads"}, "can't have the pool threads"),
        ({"pool": "threads", "pool_cls": "prefork"}, "can't have the pool threads"),
        ({"pool_cls": "prefork", "autoscale": "4,1"}, "can't have --autoscale"),
        ({"autoscale": "4,1"}, "can't have --autoscale"),
    ],
)
def test_a_pool_that_does_not_work_is_refused_at_start(options: dict[str, str], told: str) -> None:
    with pytest.raises(SystemExit) as refused:
        refuse_what_does_not_work(options, conf=celery_app.conf)
    assert told in str(refused.value)


def test_a_worker_under_nohup_goes_on_and_is_not_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    monkeypatch.setattr(stopping, "_heeded", tuple(set(STOP_SIGNALS) - {signal.SIGHUP}))
    try:
        # As Celery does beforehand.
        install_worker_restart_handler(None)
        stopping.WarmShutdown(celery_app).start(None)
        handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

    assert handlers[signal.SIGHUP] is signal.SIG_IGN
    assert all(callable(handlers[number]) for number in STOP_SIGNALS if number is not signal.SIGHUP)
