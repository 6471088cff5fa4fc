"""What a worker process needs once: one event loop, one database, a sign of life, an end with its parent."""

import asyncio
import gc
import os
import signal
import socket
import time
import warnings
from collections.abc import Coroutine
from contextlib import suppress
from functools import cache, cached_property
from typing import Any, TypeVar

import redis
from celery import signals
from celery.exceptions import CPendingDeprecationWarning

from app.backing import join_backing, locate_backing
from app.config import Settings, load_settings
from app.core.logging import configure_logging
from app.core.redis import REDIS_FAILURES, redis_key
from app.core.worker_signs import WORKERS_KEY
from app.database import Database
from app.servers.tether import tie

T = TypeVar("T")
SIGN_OF_LIFE_SECONDS = 5.0
FORGET_SECONDS = 3600.0


class WorkerProcess:
    """The asynchronous side of a synchronous Celery process.

    There is one runner for the whole life of the process: a second `asyncio.run()` would be a second event loop, and
    the database's connections belong to the first.
    """

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._database: Database | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(work)

    @cached_property
    def settings(self) -> Settings:
        return load_settings()

    @property
    def database(self) -> Database:
        if self._database is None:
            url = locate_backing(self.settings).database_url
            self._database = Database.connect(url, application="worker", pool_size=2, stands_still=True)
        return self._database


process = WorkerProcess()
_main_pid = os.getpid()


@signals.setup_logging.connect
def _use_hives_logging(**_: object) -> None:
    configure_logging(load_settings(), "worker")


@signals.celeryd_init.connect
def _have_servers(**_: object) -> None:
    """Before it connects anywhere, a worker makes sure that the servers are there."""
    join_backing(load_settings())


@signals.celeryd_after_setup.connect
def _keep_advice_out_of_the_log(**_: object) -> None:
    # Celery advises at each loss of the broker to cut off what is being worked at, which is left to go on here.
    warnings.filterwarnings("ignore", message=r"\s*In Celery 5\.1 we introduced", category=CPendingDeprecationWarning)


@signals.worker_before_create_process.connect
def _share_what_is_loaded(**_: object) -> None:
    """Have the collector of garbage leave alone what is there, for it writes to each object that it looks at.

    What neither side writes to, a pool process shares with its parent: most of the code.
    """
    gc.collect()
    gc.freeze()


@signals.worker_process_init.connect
def _die_with_parent(**_: object) -> None:
    # Celery's pool processes outlive a main process that is killed with -9, and would never end.
    if os.getpid() != _main_pid:
        tie(signal.SIGKILL, _main_pid)


@cache
def _sign_of_life_client() -> redis.Redis:
    url = locate_backing(load_settings()).redis_url
    return redis.Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5)


_last_sign = 0.0


@signals.heartbeat_sent.connect
def _give_sign_of_life(**_: object) -> None:
    """Note in Redis that this worker lives, for `/health/ready`."""
    global _last_sign  # noqa: PLW0603  # The signal's receiver is a function, and the process is its own scope.
    now = time.time()
    if now - _last_sign < SIGN_OF_LIFE_SECONDS:
        return
    _last_sign = now
    with suppress(*REDIS_FAILURES):
        client, key = _sign_of_life_client(), redis_key(process.settings.redis_prefix, WORKERS_KEY)
        client.zadd(key, {f"{socket.gethostname()}/{_main_pid}": now})
        client.zremrangebyscore(key, "-inf", now - FORGET_SECONDS)
