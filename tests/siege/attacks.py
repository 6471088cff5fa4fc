"""The attacks. To add one, write a function that takes a `Course`, and put `@attack` over it."""

import itertools
from collections.abc import Callable

from tests.siege.stranger import Course, crowd, endless, flood, flood_sockets, frame, handshake

CONT, TEXT, PING, PONG = 0x0, 0x1, 0x9, 0xA
HOST = b"Host: hive\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
SIGN_IN = b"POST /api/v1/auth/login HTTP/1.1\r\n" + HOST
TASK = b"POST /api/v1/tasks HTTP/1.1\r\n" + HOST

Attack = Callable[[Course], None]
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    ATTACKS[function.__name__] = function
    return function


@attack
def pings(course: Course) -> None:
    flood_sockets(course, "", endless(frame(PING)))


@attack
def pongs(course: Course) -> None:
    flood_sockets(course, "", endless(frame(PONG)))


@attack
def large_pings_whose_pongs_nobody_reads(course: Course) -> None:
    flood_sockets(course, f"?token={course.target.token}", endless(frame(PING, b"p" * 125)))


@attack
def pings_of_a_user(course: Course) -> None:
    flood_sockets(course, f"?token={course.target.token}", endless(frame(PING)))


@attack
def empty_messages_of_a_user(course: Course) -> None:
    flood_sockets(course, f"?token={course.target.token}", endless(frame(TEXT)))


@attack
def fragments_without_end(course: Course) -> None:
    more = frame(CONT, fin=False) * 10_000
    flood_sockets(
        course,
        f"?token={course.target.token}",
        lambda: itertools.chain([frame(TEXT, fin=False)], itertools.repeat(more)),
    )


@attack
def many_headers(course: Course) -> None:
    headers = (b"x-%d: %s\r\n" % (number, b"x" * 1000) for number in range(150_000))
    flood(course, b"GET /health HTTP/1.1\r\n" + HOST, lambda: headers, connections=2)


@attack
def one_long_header(course: Course) -> None:
    flood(
        course,
        b"GET /health HTTP/1.1\r\nx: ",
        lambda: itertools.repeat(b"x" * 1_000_000, 60),
        connections=2,
    )


@attack
def long_address(course: Course) -> None:
    flood(course, b"GET /health?", lambda: itertools.repeat(b"x" * 1_000_000, 60), connections=2)


@attack
def silence(course: Course) -> None:
    crowd(course, b"", count=course.size(1500, short=400))


@attack
def half_headers(course: Course) -> None:
    crowd(course, b"GET /health HTTP/1.1\r\nx: ", count=course.size(300, short=50), trickle=b"x")


@attack
def slow_bodies(course: Course) -> None:
    opening = SIGN_IN + b"Content-Type: application/json\r\nContent-Length: 10000\r\n\r\n{"
    crowd(course, opening, count=course.size(150, short=50), trickle=b" ")


@attack
def large_bodies_without_their_ends(course: Course) -> None:
    opening = SIGN_IN + b"Content-Type: application/json\r\nContent-Length: 1048576\r\n\r\n" + b" " * 1_000_000
    crowd(course, opening, count=course.size(190, short=60), trickle=b" " * 1500)


@attack
def handshakes_with_too_many_headers(course: Course) -> None:
    many = b"".join(b"x-%d: x\r\n" % number for number in range(130))
    crowd(course, handshake()[:-2] + many + b"\r\n", count=course.size(150, short=20))


@attack
def requests_in_a_pipeline(course: Course) -> None:
    flood(course, b"", endless(b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"))


@attack
def body_after_the_answer(course: Course) -> None:
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    flood(course, TASK + CHUNKED, endless(chunk))


@attack
def tiny_chunks(course: Course) -> None:
    flood(course, SIGN_IN + CHUNKED, endless(b"1\r\n \r\n"))


@attack
def chunk_extension_without_end(course: Course) -> None:
    flood(course, SIGN_IN + CHUNKED + b"1;", endless(b"x"))


@attack
def trailers_without_end(course: Course) -> None:
    flood(course, SIGN_IN + CHUNKED + b"0\r\n", endless(b"a: b\r\n"))


@attack
def blank_lines(course: Course) -> None:
    flood(course, b"", endless(b"\r\n"))


@attack
def new_connections(course: Course) -> None:
    """Ask once by each, with a fault, so that it's closed."""
    flood(course, b"x\r\n\r\n", lambda: iter(()), connections=8)
