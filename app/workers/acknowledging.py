"""Letting go of a message that can't be acknowledged.

kombu counts it as being worked at until Redis has confirmed that it's gone. Should the connection be lost just then, it
counts for ever: a worker that may have one message at a time takes no other, and as it asks for none it doesn't notice
that the connection is lost. The job is done by then, and its row knows that should the message come again.
"""

from typing import Any

from kombu.transport import redis, virtual


class ForgetfulQoS(redis.QoS):
    def ack(self, delivery_tag: Any) -> None:
        try:
            super().ack(delivery_tag)
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise


def forget_what_cannot_be_acknowledged() -> None:
    """Use it for all channels that are opened from now on."""
    redis.Channel.QoS = ForgetfulQoS
