"""What a worker process needs once: one event loop, one database, a sign of life, an end with its parent."""

import asyncio
import gc
import os
import signal
import socket
import sys
import warnings
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import cache, cached_property
from typing import Any, TypeVar

import redis
from celery import bootsteps, signals
from celery.exceptions import CPendingDeprecationWarning

from app.backing import join_backing, locate_backing
from app.config import ConfigurationError, Settings, load_settings
from app.core.logging import configure_logging
from app.core.redis import REDIS_FAILURES, redis_key
from app.core.worker_signs import OUTSIDE_WORKERS_KEY, WORKERS_KEY
from app.database import Database
from app.embedded.tether import tie
from app.events.due_jobs import QueueName
from app.mail.breaker import CircuitBreaker
from app.mail.mailer import Mailer
from app.mail.smtp import mailer_of
from app.server_checks import refuse_unusable
from app.workers.celery_app import celery_app

T = TypeVar("T")
SIGN_OF_LIFE_SECONDS = 5.0
# Longer than the broker takes to refuse what a worker begins with.
FIRST_SIGN_SECONDS = 0.5
FORGET_SECONDS = 3600.0
# Under which key a worker leaves its signs, by the queue that it takes from.
SIGNS: Mapping[str, str] = {QueueName.MAIN: WORKERS_KEY, QueueName.OUTSIDE: OUTSIDE_WORKERS_KEY}


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

    @cached_property
    def mailer(self) -> Mailer:
        """One for all mails of this process, for it remembers how the server was."""
        return CircuitBreaker(mailer_of(self.settings))

    @property
    def database(self) -> Database:
        if self._database is None:
            url = locate_backing(self.settings).database_url
            self._database = Database.connect(
                url, application="worker", pool_size=2, stands_still=True, keeps_turns_for_reads=False
            )
        return self._database


process = WorkerProcess()
_main_pid = os.getpid()


@signals.setup_logging.connect
def _use_hives_logging(**_: object) -> None:
    configure_logging(load_settings(), "worker")


@signals.celeryd_init.connect
def _have_servers(**_: object) -> None:
    """Before it connects anywhere, a worker makes sure that the servers are there, and can be used."""
    settings = load_settings()
    try:
        asyncio.run(refuse_unusable(settings, join_backing(settings)))
    except ConfigurationError as error:
        # Celery would log any other exception, and go on.
        sys.exit(f"hive: {error}")


@signals.celeryd_after_setup.connect
def _keep_advice_out_of_the_log(**_: object) -> None:
    # Celery advises at each loss of the broker to cut off what is being worked at, which is left to go on here.
    warnings.filterwarnings("ignore", message=r"\s*In Celery 5\.1 we introduced", category=CPendingDeprecationWarning)


@signals.worker_before_create_process.connect
def _share_what_is_loaded(**_: object) -> None:
    """Keep the garbage collector from what is there, for it writes to each object that it looks at.

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


class SignsOfLife(bootsteps.StartStopStep):
    """Leave signs of life in Redis, for `/health/ready`, for as long as the worker consumes.

    The timer runs only within the loop that takes jobs from the broker. A worker that fails on its way there, again
    and again, leaves no sign.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: object) -> None:
        self._timers: list[Any] = []
        super().__init__(consumer, **options)

    def start(self, consumer: Any) -> None:
        taken_from = consumer.app.amqp.queues.consume_from
        keys = [key for queue, key in SIGNS.items() if queue in taken_from]
        self._timers = [
            consumer.timer.call_after(FIRST_SIGN_SECONDS, give_sign_of_life, (keys,)),
            consumer.timer.call_repeatedly(SIGN_OF_LIFE_SECONDS, give_sign_of_life, (keys,)),
        ]

    def stop(self, _consumer: Any) -> None:
        timers, self._timers = self._timers, []
        for timer in timers:
            timer.cancel()

    shutdown = stop


celery_app.steps["consumer"].add(SignsOfLife)


def give_sign_of_life(keys: Sequence[str]) -> None:
    """Note in Redis that this worker lives."""
    with suppress(*REDIS_FAILURES):
        client = _sign_of_life_client()
        seconds, microseconds = client.time()
        now = seconds + microseconds / 1e6
        for name in keys:
            key = redis_key(process.settings.redis_prefix, name)
            client.zadd(key, {f"{socket.gethostname()}/{_main_pid}": now})
            client.zremrangebyscore(key, "-inf", now - FORGET_SECONDS)
