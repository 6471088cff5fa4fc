"""Counting the readers of one process: those that are there, what they were given, and which were too slow."""

from dataclasses import astuple
from uuid import uuid4

from app.core.permissions import Actor
from app.events.published import PublishedEvent
from app.models import EventType
from app.websockets.connection import MAX_QUEUED_MESSAGES, CloseCode, Connection, ReaderKind
from app.websockets.connection_manager import ConnectionManager
from app.websockets.message import Message


def reader(manager: ConnectionManager, kind: ReaderKind = ReaderKind.SOCKET) -> Connection:
    connection = Connection(Actor(uuid4()), kind=kind)
    manager.add(connection)
    return connection


def figures(manager: ConnectionManager) -> dict[str, tuple[int, int, int]]:
    """What is not all zero: present, events, too slow."""
    tallies = {str(kind): astuple(tally) for kind, tally in manager.tallies().items()}
    return {kind: tally for kind, tally in tallies.items() if any(tally)}


def test_readers_are_counted_by_their_kinds_while_they_are_there() -> None:
    manager = ConnectionManager()
    readers = [reader(manager, kind) for kind in (*ReaderKind, ReaderKind.STREAM)]
    assert figures(manager) == {"socket": (1, 0, 0), "stream": (2, 0, 0), "page": (1, 0, 0)}

    for gone in readers:
        manager.remove(gone)
        manager.remove(gone)

    assert figures(manager) == {}


def test_what_a_reader_was_given_counts_on_when_it_is_gone() -> None:
    manager = ConnectionManager()
    one, other = reader(manager), reader(manager)
    one.events_given, other.events_given = 3, 4
    assert figures(manager) == {"socket": (2, 7, 0)}

    manager.remove(one)
    manager.remove(one)
    other.events_given += 1

    assert figures(manager) == {"socket": (1, 8, 0)}


def test_a_reader_that_was_too_slow_counts_once() -> None:
    manager = ConnectionManager()
    slow, ended = reader(manager, ReaderKind.STREAM), reader(manager)
    ended.end(CloseCode.UNAUTHORIZED)

    for _ in range(2 * MAX_QUEUED_MESSAGES):
        slow.offer(Message("x"))
    assert figures(manager) == {"socket": (1, 0, 0), "stream": (1, 0, 1)}
    for gone in (slow, ended):
        manager.remove(gone)

    assert figures(manager) == {"stream": (0, 0, 1)}


def test_the_events_of_pages_are_counted() -> None:
    manager = ConnectionManager()

    for events in (0, 2, 3):
        manager.count_page(events)

    assert figures(manager) == {"page": (0, 5, 0)}


async def test_events_are_told_apart_from_other_messages() -> None:
    manager = ConnectionManager()
    connection = reader(manager)
    manager.deliver(PublishedEvent(1, EventType.TASK_UPDATED, uuid4(), None, None, "{}"))
    connection.offer(Message('{"type":"pong"}'))

    messages = [await connection.next_message(), await connection.next_message()]

    assert [message and message.is_event for message in messages] == [True, False]
