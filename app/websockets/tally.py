"""Counting readers of events, for monitoring: in plain numbers, for each event touches them."""

from dataclasses import dataclass

from app.websockets.connection import CloseCode, Connection


@dataclass(slots=True)
class Tally:
    """Of one kind of readers: how many there are, how many events they were given, how many of them were too slow."""

    present: int = 0
    events: int = 0
    too_slow: int = 0

    def count(self, connection: Connection) -> None:
        self.events += connection.events_given
        self.too_slow += connection.close_code == CloseCode.TOO_SLOW
