"""A worker goes on after a message that it could not acknowledge."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kombu.transport import redis

from app.workers.celery_app import celery_app


class ChannelWithoutServer:
    """A channel whose Redis doesn't answer, as far as a QoS asks for one."""

    unacked_restore_limit = None
    do_restore = False

    def __init__(self) -> None:
        self.connection = self

    @contextmanager
    def conn_or_acquire(self, _client: Any = None) -> Iterator[Any]:
        raise TimeoutError("Redis did not answer in time")
        yield


def test_channels_let_go_of_what_can_not_be_acknowledged() -> None:
    assert celery_app.main == "hive"
    qos = redis.Channel.QoS(ChannelWithoutServer(), prefetch_count=1)
    qos._delivered["tag"] = "a message"  # type: ignore[index]  # It's there from the beginning.
    assert not qos.can_consume()

    with pytest.raises(TimeoutError):
        qos.ack("tag")

    # Otherwise it would take no other message, and never notice that its connection is lost.
    assert qos.can_consume()
