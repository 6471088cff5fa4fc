"""Celery, configured. `celery -A app.workers.celery_app worker` starts from here."""

from typing import Any

from celery import Celery
from kombu import Queue

from app.backing import locate_backing
from app.config import Settings, load_settings
from app.core.redis import redis_key
from app.core.tcp import TCP_PROBES
from app.events.due_jobs import QueueName
from app.workers.acknowledging import forget_what_cannot_be_acknowledged


def configuration(settings: Settings, redis_url: str) -> dict[str, Any]:
    """What Celery is told; the reasons stand beside what isn't its default."""
    broker, backend = settings.celery_urls(redis_url)
    # Before the names of all keys and channels, those of remote control and events too. Other parts of HIVE have theirs
    # in the same Redis.
    prefix = redis_key(settings.redis_prefix, "celery:")
    return {
        "broker_url": broker,
        "result_backend": backend,
        "broker_transport_options": {
            "global_keyprefix": prefix,
            "visibility_timeout": 600,
            # Between the name of a queue and the priority of what is in this part of it.
            "sep": ":",
            "priority_steps": [0, 3],
            # A broker can be gone without a word. A worker waits for its queue beyond these time-outs, and kombu
            # drops that connection when no reply has come for twice the interval.
            "socket_timeout": 3,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "socket_keepalive_options": TCP_PROBES,
            "health_check_interval": 10,
        },
        "result_backend_transport_options": {"global_keyprefix": prefix},
        "result_expires": 3600,
        "redis_socket_timeout": 3,
        "redis_socket_connect_timeout": 2,
        # Pickle would let anybody who can write to Redis run code in the worker.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        # Confirmed after the work, so that a killed worker's message comes back.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # With one message in reserve at most, a killed worker keeps little to itself.
        "worker_prefetch_multiplier": 1,
        "worker_concurrency": settings.worker_concurrency,
        "worker_hijack_root_logger": False,
        # Nothing of HIVE uses it, and its PSUBSCRIBE is refused to a Redis user who may only use channels of HIVE's.
        "worker_enable_remote_control": False,
        # A worker waits for its broker however long that takes, also when it's started first.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": 2,
        # What a worker is at goes on without the broker, and its row knows it should its message come again.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # The rows decide about trying again.
        "task_publish_retry": False,
        "task_default_queue": QueueName.MAIN.value,
        # A worker takes from both unless it's told otherwise.
        "task_queues": tuple(Queue(name.value) for name in QueueName),
        "timezone": "UTC",
    }


def _configuration_from_environment() -> dict[str, Any]:
    settings = load_settings()
    return configuration(settings, locate_backing(settings).redis_url)


# In this order: what can't work is refused before anything is started.
OF_A_WORKER = ["app.workers.pools", "app.workers.tasks", "app.workers.process", "app.workers.stopping"]
forget_what_cannot_be_acknowledged()
celery_app = Celery("hive", include=OF_A_WORKER)
# Given as a function, it's called when Celery first needs it: importing this module reads no settings.
celery_app.add_defaults(_configuration_from_environment)
