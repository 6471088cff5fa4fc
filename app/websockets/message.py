"""What is on its way to readers: a text, and the bytes that it is on a socket."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from websockets.frames import Frame, Opcode

from app.events.published import PublishedEvent


class Framed(Protocol):
    """What can be written to a socket as it is."""

    @property
    def frames(self) -> bytes: ...


@dataclass(frozen=True)
class Message:
    """A text on its way out; `seq` is its place in the log, if it has one.

    All readers of an event share the one message, and with it what is made of it.
    """

    text: str
    seq: int | None = None
    is_event: bool = False

    @classmethod
    def of(cls, event: PublishedEvent) -> "Message":
        return cls(event.text, event.seq, is_event=True)

    @property
    def size(self) -> int:
        """Bytes on the wire. Most texts are ASCII, which Python knows of each without looking through it."""
        return len(self.text) if self.text.isascii() else len(self.text.encode())

    @cached_property
    def frames(self) -> bytes:
        """As a socket has it. A server masks nothing, so these bytes are the same for every one of them."""
        return Frame(Opcode.TEXT, self.text.encode()).serialize(mask=False)


RESYNC = Message('{"type":"resync"}')
