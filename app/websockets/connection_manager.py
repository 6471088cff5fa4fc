"""The sockets of this process, and giving each event to those that may read it."""

from collections.abc import Iterator
from uuid import UUID

from app.core.permissions import may_read_event
from app.events.published import PublishedEvent
from app.events.types import EventType
from app.websockets.connection import CloseCode, Connection

PRESENCE = frozenset({EventType.USER_ONLINE, EventType.USER_OFFLINE})


class ConnectionManager:
    def __init__(self) -> None:
        self._by_user: dict[UUID, dict[UUID, Connection]] = {}

    def __len__(self) -> int:
        return sum(len(connections) for connections in self._by_user.values())

    def __iter__(self) -> Iterator[Connection]:
        for connections in list(self._by_user.values()):
            yield from list(connections.values())

    def users(self) -> frozenset[UUID]:
        """Who has a socket here."""
        return frozenset(self._by_user)

    def add(self, connection: Connection) -> None:
        self._by_user.setdefault(connection.actor.id, {})[connection.id] = connection

    def remove(self, connection: Connection) -> None:
        """Forget the socket; harmless if it's not known."""
        connections = self._by_user.get(connection.actor.id, {})
        connections.pop(connection.id, None)
        if not connections:
            self._by_user.pop(connection.actor.id, None)

    def deliver(self, event: PublishedEvent) -> None:
        """Queue the event for every socket whose user may read it. Never waits for any of them."""
        if event.type is EventType.ACCOUNT_DEACTIVATED:
            self._end_all_of(event.actor_id)
        if event.type.is_internal:
            return
        for connection in self:
            # That oneself is online or offline is no news to oneself.
            is_about_reader = event.type in PRESENCE and connection.actor.id == event.actor_id
            if not is_about_reader and may_read_event(connection.actor, event.audience):
                connection.offer(event.text)

    def end_all(self, code: int) -> None:
        for connection in self:
            connection.end(code)

    def _end_all_of(self, user_id: UUID) -> None:
        for connection in list(self._by_user.get(user_id, {}).values()):
            connection.end(CloseCode.UNAUTHORIZED)
