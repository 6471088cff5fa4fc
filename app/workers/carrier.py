"""The sending side of Celery: handing jobs to workers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu import Producer
from kombu.exceptions import BatchPublishError, OperationalError  # type: ignore[attr-defined]  # As below.

from app.config import Settings
from app.core.redis import REDIS_FAILURES
from app.events.due_jobs import DueJob, QueueName
from app.models import Lane
from app.workers.celery_app import configuration

# Of messages in one queue a worker takes those first whose number is low.
PRIORITIES: Mapping[int, int] = {Lane.FIRST: 0}
LATER = 3


class CeleryCarrier:
    """Blocking, as Celery is: call it in a thread."""

    def __init__(self, settings: Settings, redis_url: str) -> None:
        self._celery = Celery("hive-carrier", set_as_current=False)
        conf = configuration(settings, redis_url)
        # Nobody here waits for results, and with a backend each send would subscribe to one of its own.
        conf["result_backend"] = "disabled://"
        self._celery.conf.update(conf)

    def send(self, jobs: Sequence[DueJob]) -> None:
        """Put the jobs into the queue, each under its row's id.

        Raises:
            OSError: the broker is away; some of the jobs may have been sent.
        """
        # All go in one piece, and not by `send_task`, which would declare the queue anew for each.
        with self._producer() as producer, producer.batch():  # type: ignore[attr-defined]  # The types know an older kombu.
            for job in jobs:
                self._publish(producer, job)

    def _publish(self, producer: Producer, job: DueJob) -> None:
        # Celery writes a second copy of the arguments for people to read unless it's given one; they have the row.
        message = self._celery.amqp.create_task_message(
            str(job.id), job.name, kwargs=job.arguments, argsrepr="", kwargsrepr=""
        )
        producer.publish(
            message.body,
            exchange="",
            routing_key=job.queue,
            priority=PRIORITIES.get(job.lane, LATER),
            serializer="json",
            headers=message.headers,
            **message.properties,
        )

    def count_queued(self, name: QueueName = QueueName.MAIN) -> int:
        """How many messages are in a queue that no worker has taken yet.

        Raises:
            OSError: the broker is away.
        """
        # The types of kombu don't know what a declaration answers.
        queue: Any = self._celery.amqp.queues[name]
        with self._producer() as producer:
            return int(queue.queue_declare(channel=producer.channel).message_count)

    def close(self) -> None:
        self._celery.close()

    @contextmanager
    def _producer(self) -> Iterator[Producer]:
        try:
            with self._celery.producer_pool.acquire(block=True) as producer:
                yield producer
        except (BatchPublishError, OperationalError, *REDIS_FAILURES) as error:
            raise ConnectionError(f"The broker can't be reached: {error}") from error
