"""How a worker ends: what its processes are at is finished first, also when they get the signal themselves.

Celery's pool processes die of SIGTERM, which reaches them too when a service manager or a terminal signals the whole
group; their jobs would come a second time. Here they heed no such signal. Their parent tells them through their pipes
to end, and the kernel kills them when it is gone.
"""

import os
import signal
import threading

import structlog
from celery import bootsteps, signals
from celery.apps.worker import install_worker_term_handler  # type: ignore[attr-defined]  # The types don't know it.

from app.processes.stopping import STOP_SIGNALS, heeded_stop_signals
from app.workers.celery_app import celery_app

# How long jobs in progress are waited for. `hive run` has less patience; a service manager should have a little more.
FINISH_SECONDS = 30.0

_heeded = heeded_stop_signals()
_main_pid = os.getpid()

log = structlog.stdlib.get_logger(__name__)


class WarmShutdown(bootsteps.StartStopStep):
    """Makes each stop signal a warm shutdown, also the second one, by which Celery cuts off jobs.

    Celery starts itself anew on SIGHUP. A worker that runs under nohup goes on.
    """

    def start(self, parent: object) -> None:
        for number in STOP_SIGNALS:
            if number in _heeded:
                install_worker_term_handler(parent, sig=number.name)
            else:
                signal.signal(number, signal.SIG_IGN)


celery_app.steps["worker"].add(WarmShutdown)


@signals.worker_process_init.connect
def _heed_no_stop_signal(**_: object) -> None:
    if os.getpid() != _main_pid:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


_is_stopping = False


@signals.worker_shutting_down.connect
def _end_in_time(**_: object) -> None:
    """See that the worker ends, though a job may not. Its row has the job done again later."""
    global _is_stopping  # noqa: PLW0603  # The signal's receiver is a function, and the process is its own scope.
    if not _is_stopping:
        _is_stopping = True
        ending = threading.Timer(FINISH_SECONDS, _end)
        ending.daemon = True
        ending.start()


def _end() -> None:
    log.warning("a job did not end in time, and is cut off; it will be done again", seconds=FINISH_SECONDS)
    os._exit(1)
