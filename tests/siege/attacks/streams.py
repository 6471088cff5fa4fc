"""Readers of events: too many, slow, silent, and such as begin again and again."""

from tests.siege.attacks.registry import attack
from tests.siege.stranger import CLOSED, OPEN, RESET, Course, Request, Stranger, as_user, ask, crowd, flood, once


def _get(course: Course, path: str) -> bytes:
    return (f"GET /api/v1{path} HTTP/1.1\r\nHost: hive\r\nAuthorization: Bearer {course.target.token}\r\n\r\n").encode()


@attack("429", CLOSED, OPEN, seconds=6)
def streams_that_nobody_reads(course: Course) -> None:
    crowd(course, _get(course, "/events/stream?after=0"), count=course.size(100, short=20), reads=False, window=2048)


@attack(OPEN, CLOSED, "429", seconds=8)
def pages_of_events_that_nobody_reads(course: Course) -> None:
    count = course.size(80, short=20)
    crowd(course, _get(course, "/events?after=0&limit=1000"), count=count, reads=False, window=2048)


@attack(OPEN, CLOSED, "429", seconds=8)
def pages_of_tasks_that_nobody_reads(course: Course) -> None:
    crowd(course, _get(course, "/tasks?limit=200"), count=80, reads=False, window=2048)


@attack(RESET, "429", CLOSED)
def streams_that_begin_again(course: Course) -> None:
    flood(course, _get(course, "/events/stream?after=0"), once(), connections=12, then=Stranger.reset)


@attack("200", "201", "429", is_in_short_form=True)
def tickets(course: Course) -> None:
    ask(course, lambda _: as_user(course, "POST", "/events/ticket"))


@attack("401", "429")
def junk_tickets(course: Course) -> None:
    ask(course, lambda number: Request("GET", f"/api/v1/events/stream?ticket={number}" + "t" * 60))


@attack("200", "429", CLOSED)
def pages_of_events(course: Course) -> None:
    ask(course, lambda _: as_user(course, "GET", "/events?after=0&limit=1000"))


@attack("200", "429", OPEN)
def long_polls(course: Course) -> None:
    crowd(course, _get(course, "/events?after=900000000&wait=20"), count=150)


@attack("401", "429")
def streams_of_nobody(course: Course) -> None:
    ask(course, lambda _: Request("GET", "/api/v1/events/stream"))
