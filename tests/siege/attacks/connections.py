"""Connections: too many of them, silent ones, broken ones, and such as speak something else."""

import itertools
import os

from tests.siege.attacks.registry import attack
from tests.siege.stranger import CLOSED, OPEN, RESET, Course, Request, Stranger, ask, crowd, endless, flood, once

GET = b"GET /health HTTP/1.1\r\nHost: hive\r\n\r\n"


@attack(CLOSED, OPEN, "429", is_in_short_form=True)
def silence(course: Course) -> None:
    crowd(course, b"", count=course.size(1500, short=400))


@attack("400", is_in_short_form=True)
def new_connections(course: Course) -> None:
    """Ask once by each, with a fault, so that it's closed."""
    flood(course, b"x\r\n\r\n", once(), connections=8)


@attack("200")
def one_connection_for_each_request(course: Course) -> None:
    ask(course, lambda _: Request("GET", "/health", headers={"Connection": "close"}), connections=8)


@attack(RESET, is_in_short_form=True)
def connections_that_are_reset(course: Course) -> None:
    flood(course, GET, once(), connections=8, then=Stranger.reset)


@attack(RESET)
def resets_within_a_body(course: Course) -> None:
    opening = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: hive\r\nContent-Length: 100000\r\n\r\n" + b" " * 50_000
    flood(course, opening, once(), connections=8, then=Stranger.reset)


@attack(CLOSED)
def half_closed_within_the_headers(course: Course) -> None:
    flood(course, b"GET /health HTTP/1.1\r\nx: ", once(), connections=8, then=Stranger.say_no_more)


@attack(CLOSED)
def half_closed_after_a_request(course: Course) -> None:
    flood(course, GET, once(), connections=8, then=Stranger.say_no_more)


@attack(OPEN)
def connections_that_stay_after_an_answer(course: Course) -> None:
    crowd(course, GET, count=150)


@attack(CLOSED, OPEN, is_in_short_form=True)
def blank_lines(course: Course) -> None:
    flood(course, b"", endless(b"\r\n"))


@attack("400")
def greetings_of_tls(course: Course) -> None:
    flood(course, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(507), once(), connections=8)


@attack("400", "505")
def prefaces_of_http2(course: Course) -> None:
    flood(course, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64), once(), connections=8)


@attack("400")
def noise(course: Course) -> None:
    flood(course, b"\xff", lambda: itertools.repeat(os.urandom(65536)), connections=8)


@attack(CLOSED, OPEN, is_in_short_form=True)
def requests_in_a_pipeline(course: Course) -> None:
    flood(course, b"", endless(GET))


@attack(OPEN)
def requests_in_a_pipeline_whose_answers_nobody_reads(course: Course) -> None:
    """The kernel's buffers fill, and then nothing more of it is served."""
    crowd(course, GET * 50, count=100, trickle=GET * 50, reads=False, window=2048)
