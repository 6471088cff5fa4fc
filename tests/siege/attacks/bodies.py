"""Bodies: slow, large and endless ones, chunks that are hardly any, and JSON that is hard to read."""

import json

from tests.siege.attacks.registry import attack
from tests.siege.stranger import CLOSED, OPEN, Course, Request, as_user, ask, crowd, endless, flood, once

HOST = b"Host: hive\r\n"
JSON = b"Content-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n" + JSON + b"\r\n"
SIGN_IN = b"POST /api/v1/auth/login HTTP/1.1\r\n" + HOST
TASK = b"POST /api/v1/tasks HTTP/1.1\r\n" + HOST
MOST = 1_000_000


@attack("408", "429", OPEN, seconds=13, is_in_short_form=True)
def slow_bodies(course: Course) -> None:
    opening = SIGN_IN + JSON + b"Content-Length: 10000\r\n\r\n{"
    crowd(course, opening, count=course.size(150, short=50), trickle=b" ")


@attack("429", OPEN, seconds=10, is_in_short_form=True)
def large_bodies_without_their_ends(course: Course) -> None:
    opening = SIGN_IN + JSON + b"Content-Length: 1048576\r\n\r\n" + b" " * MOST
    crowd(course, opening, count=course.size(190, short=60), trickle=b" " * 1500)


@attack("401", "413", "429", CLOSED, is_in_short_form=True)
def body_after_the_answer(course: Course) -> None:
    flood(course, TASK + CHUNKED, endless(b"10000\r\n" + b" " * 65536 + b"\r\n"))


@attack("400", "429", is_in_short_form=True)
def tiny_chunks(course: Course) -> None:
    flood(course, SIGN_IN + CHUNKED, endless(b"1\r\n \r\n"))


@attack("400", "429", is_in_short_form=True)
def chunk_extension_without_end(course: Course) -> None:
    flood(course, SIGN_IN + CHUNKED + b"1;", endless(b"x"))


@attack("400", "422", "429", CLOSED, is_in_short_form=True)
def trailers_without_end(course: Course) -> None:
    flood(course, SIGN_IN + CHUNKED + b"0\r\n", endless(b"a: b\r\n"))


@attack("400", "429")
def sizes_of_chunks_without_end(course: Course) -> None:
    flood(course, SIGN_IN + CHUNKED, endless(b"0"))


@attack("400", "429")
def sizes_of_chunks_past_all_numbers(course: Course) -> None:
    flood(course, SIGN_IN + CHUNKED + b"f" * 40 + b"\r\n", endless(b"x"))


@attack("413", "429", CLOSED)
def bodies_that_are_announced_as_huge(course: Course) -> None:
    flood(course, SIGN_IN + JSON + b"Content-Length: 99999999999\r\n\r\n", endless(b"x"))


def _whole(course: Course, content: bytes, path: str = "/api/v1/auth/login", kind: str = "application/json") -> None:
    ask(course, lambda _: Request("POST", path, content, {"Content-Type": kind}))


@attack("422", "429", is_in_short_form=True)
def deep_json(course: Course) -> None:
    _whole(course, b"[" * 100_000)


@attack("422", "429")
def deep_json_as_long_as_may_be(course: Course) -> None:
    _whole(course, b'{"a":' * (MOST // 5))


@attack("422", "429")
def json_of_quotes(course: Course) -> None:
    _whole(course, b'"\\' * (MOST // 2))


@attack("422", "429")
def numbers_of_a_million_digits(course: Course) -> None:
    _whole(course, b'{"email": ' + b"9" * MOST + b"}")


@attack("422", "429")
def numbers_as_impact(course: Course) -> None:
    content = b'{"title": "x", "impact_points": ' + b"1" * MOST + b"}"
    ask(course, lambda _: _task(course, content))


@attack("422", "429")
def huge_exponents(course: Course) -> None:
    content = b'{"title": "x", "impact_points": 1e999999999, "category": 1e-999999999}'
    ask(course, lambda _: _task(course, content))


@attack("422", "429")
def the_same_key_again_and_again(course: Course) -> None:
    _whole(course, b"{" + b'"email": "a",' * 10_000 + b'"password": "b"}')


@attack("422", "429")
def lone_surrogates(course: Course) -> None:
    _whole(course, b'{"email": "' + b"\\ud800" * (MOST // 6) + b'", "password": "x"}')


@attack("422", "429")
def large_keys(course: Course) -> None:
    _whole(course, json.dumps({f"{number}" + "k" * 10_000: 1 for number in range(100)}).encode())


@attack("401", "422", "429")
def texts_of_nuls(course: Course) -> None:
    _whole(course, b'{"email": "' + b"\\u0000" * (MOST // 6) + b'", "password": "x"}')


@attack("422", "429")
def invalid_utf8(course: Course) -> None:
    _whole(course, b'{"email": "' + b"\xff" * MOST + b'"}')


@attack("422", "429")
def many_faults(course: Course) -> None:
    content = json.dumps({"mode": "each", "items": [{"op": "x"}] * 1000}).encode()
    ask(course, lambda _: Request("POST", "/api/v1/tasks/batch", content, _own(course)))


@attack("413", "429", CLOSED, is_in_short_form=True)
def forms_of_many_fields(course: Course) -> None:
    _whole(course, b"a=b&" * (MOST // 4), "/api/v1/auth/token", "application/x-www-form-urlencoded")


@attack("413", "429", CLOSED)
def forms_of_many_parts(course: Course) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n'
    _whole(course, part * (MOST // len(part)) + b"--x--\r\n", "/api/v1/auth/token", "multipart/form-data; boundary=x")


@attack("401", "415", "429")
def compressed_bodies(course: Course) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    ask(course, lambda _: Request("POST", "/api/v1/auth/login", b"\x1f\x8b" + bytes(1000), headers))


@attack("422", "429", OPEN, CLOSED)
def bodies_of_many_connections(course: Course) -> None:
    """Whole ones, whose tokens aren't."""
    opening = SIGN_IN + JSON + b"Content-Length: 1000000\r\n\r\n"
    flood(course, opening, once(b"{" + b" " * (MOST - 1)), connections=50)


def _own(course: Course) -> dict[str, str]:
    return as_user(course, "GET", "/").headers


def _task(course: Course, content: bytes) -> Request:
    return Request("POST", "/api/v1/tasks", content, _own(course))
