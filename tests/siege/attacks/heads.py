"""Request lines and headers: too large, too many, contradictory, or of another protocol."""

import itertools

from tests.siege.attacks.registry import attack
from tests.siege.stranger import CLOSED, OPEN, Course, Request, as_user, ask, crowd, flood, handshake, once

HOST = b"Host: hive\r\n"
GET = b"GET /health HTTP/1.1\r\n" + HOST
LOGIN = b"POST /api/v1/auth/login HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
LARGE = 60_000


@attack("431", CLOSED, is_in_short_form=True)
def many_headers(course: Course) -> None:
    headers = (b"x-%d: %s\r\n" % (number, b"x" * 1000) for number in range(150_000))
    flood(course, GET, lambda: headers, connections=2)


@attack("431", CLOSED, is_in_short_form=True)
def one_long_header(course: Course) -> None:
    flood(course, b"GET /health HTTP/1.1\r\nx: ", lambda: itertools.repeat(b"x" * 1_000_000, 60), connections=2)


@attack("431", "414", CLOSED, is_in_short_form=True)
def long_address(course: Course) -> None:
    flood(course, b"GET /health?", lambda: itertools.repeat(b"x" * 1_000_000, 60), connections=2)


@attack("408", "429", OPEN, seconds=12, is_in_short_form=True)
def half_headers(course: Course) -> None:
    crowd(course, b"GET /health HTTP/1.1\r\nx: ", count=course.size(300, short=50), trickle=b"x")


@attack("431", is_in_short_form=True)
def handshakes_with_too_many_headers(course: Course) -> None:
    many = b"".join(b"x-%d: x\r\n" % number for number in range(130))
    crowd(course, handshake()[:-2] + many + b"\r\n", count=course.size(150, short=20))


@attack("400", "431", "200")
def large_cookies(course: Course) -> None:
    ask(course, lambda _: Request("GET", "/health", headers={"Cookie": "a=" + "b" * LARGE}))


@attack("200", "206", "416", "429")
def many_ranges(course: Course) -> None:
    ranges = "bytes=" + ",".join(f"{start}-{start + 1}" for start in range(5000))
    ask(course, lambda _: Request("GET", "/openapi.json", headers={"Range": ranges}))


@attack("200", "304", "400", "422", "429")
def many_tags(course: Course) -> None:
    tags = ", ".join(f'"{number}"' for number in range(6000))
    ask(course, lambda _: as_user(course, "GET", "/users/me", **{"If-None-Match": tags}))


@attack("200", "400", "412", "422", "429")
def many_tags_to_match(course: Course) -> None:
    tags = ", ".join(f'"{number}"' for number in range(6000))
    ask(course, lambda _: as_user(course, "PATCH", "/users/me", {"display_name": "M"}, **{"If-Match": tags}))


@attack("400", "401", "429")
def large_tokens(course: Course) -> None:
    ask(course, lambda _: Request("GET", "/api/v1/users/me", headers={"Authorization": "Bearer " + "a" * LARGE}))


@attack("401", "429")
def junk_tokens(course: Course) -> None:
    def request(number: int) -> Request:
        token = f"eyJhbGciOiJIUzI1NiJ9.{number}.{'a' * 200}"
        return Request("GET", "/api/v1/users/me", headers={"Authorization": f"Bearer {token}"})

    ask(course, request)


@attack(CLOSED, OPEN)
def keep_alive_of_http_1_0(course: Course) -> None:
    flood(course, b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", once(), connections=8)


@attack("404", "429", OPEN, seconds=7)
def absolute_addresses(course: Course) -> None:
    target = b"GET http://elsewhere.example/latest/meta-data HTTP/1.1\r\n" + HOST + b"\r\n"
    flood(course, target * 20, once(), connections=8)


@attack("404", "405", "400", "429", OPEN, seconds=7)
def options_of_everything(course: Course) -> None:
    flood(course, (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n") * 20, once(), connections=8)


@attack("200", "429")
def heads_alone(course: Course) -> None:
    ask(course, lambda _: Request("HEAD", "/openapi.json"))


@attack("400")
def two_lengths(course: Course) -> None:
    flood(course, LOGIN + b"Content-Length: 5\r\nContent-Length: 50\r\n\r\nhello", once(), connections=8)


@attack("400")
def length_and_chunks(course: Course) -> None:
    opening = LOGIN + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    flood(course, opening, once(), connections=8)


@attack("400")
def negative_lengths(course: Course) -> None:
    flood(course, LOGIN + b"Content-Length: -1\r\n\r\n", once(), connections=4)


@attack("400")
def lengths_past_all_numbers(course: Course) -> None:
    flood(course, LOGIN + b"Content-Length: " + b"9" * 50 + b"\r\n\r\n", once(), connections=4)


@attack("400", "404", "405", "429")
def tunnels(course: Course) -> None:
    flood(course, b"CONNECT 169.254.169.254:80 HTTP/1.1\r\n" + HOST + b"\r\nhello\r\n\r\n", once(), connections=8)


@attack(CLOSED, OPEN, "400", seconds=7)
def upgrades_to_http2(course: Course) -> None:
    opening = GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    flood(course, opening, once(), connections=8)


@attack("408", OPEN, seconds=13)
def bodies_that_are_promised(course: Course) -> None:
    crowd(course, LOGIN + b"Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n", count=150)


@attack("400")
def headers_that_smuggle(course: Course) -> None:
    flood(course, GET + b"Transfer-Encoding : chunked\r\nX: a\x00b\r\n folded\r\n\r\n", once(), connections=8)


@attack("404", "405", "429")
def unknown_methods(course: Course) -> None:
    ask(course, lambda number: Request("PROPFIND" if number % 2 else "TRACE", f"/api/v1/tasks/{number}"))
