"""Sockets: frames that are no messages, messages that are none of HIVE's, and handshakes without end."""

import itertools
import json

from tests.siege.attacks.registry import attack
from tests.siege.stranger import (
    CLOSED,
    OPEN,
    Course,
    crowd,
    endless,
    flood,
    flood_sockets,
    flood_sockets_of_user,
    frame,
    handshake,
    once,
)

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
# What a socket gets that goes on beyond its budget takes 30 seconds, and the attacks are shorter.
GOES_ON = (OPEN,)


@attack("1008", "4401", is_in_short_form=True)
def pings(course: Course) -> None:
    flood_sockets(course, "", endless(frame(PING)))


@attack("1008", "4401", is_in_short_form=True)
def pongs(course: Course) -> None:
    flood_sockets(course, "", endless(frame(PONG)))


@attack(*GOES_ON, is_in_short_form=True)
def large_pings_whose_pongs_nobody_reads(course: Course) -> None:
    flood_sockets_of_user(course, endless(frame(PING, b"p" * 125)))


@attack("1008", "1011", seconds=27, is_in_short_form=True)
def pings_of_a_user(course: Course) -> None:
    """They answer none of HIVE's own, which ends them before their budget does."""
    flood_sockets_of_user(course, endless(frame(PING)))


@attack(*GOES_ON, is_in_short_form=True)
def empty_messages_of_a_user(course: Course) -> None:
    flood_sockets_of_user(course, endless(frame(TEXT)))


@attack("1008", is_in_short_form=True)
def fragments_without_end(course: Course) -> None:
    more = frame(CONT, fin=False) * 10_000
    flood_sockets_of_user(course, lambda: itertools.chain([frame(TEXT, fin=False)], itertools.repeat(more)))


@attack(OPEN)
def first_fragments_and_then_silence(course: Course) -> None:
    opening = frame(TEXT, b"x" * 60_000, fin=False)
    flood_sockets_of_user(course, once(opening), connections=20)


@attack("1002")
def continuations_of_nothing(course: Course) -> None:
    flood_sockets_of_user(course, once(frame(CONT, b"x")))


@attack("1002", is_in_short_form=True)
def frames_with_reserved_bits(course: Course) -> None:
    flood_sockets_of_user(course, once(frame(TEXT, b"x", reserved=0x70)))


@attack("1002")
def frames_that_claim_to_be_compressed(course: Course) -> None:
    flood_sockets_of_user(course, once(frame(TEXT, b"\x00" * 1000, reserved=0x40)))


@attack("1002")
def frames_without_a_mask(course: Course) -> None:
    flood_sockets_of_user(course, once(b"\x81\x01x"))


@attack("1002")
def pings_that_are_too_long(course: Course) -> None:
    flood_sockets_of_user(course, once(frame(PING, b"p" * 126)))


@attack("1007")
def texts_that_are_no_utf8(course: Course) -> None:
    flood_sockets_of_user(course, once(frame(TEXT, b"\xff\xfe")))


@attack("1009", is_in_short_form=True)
def messages_of_a_megabyte(course: Course) -> None:
    flood_sockets_of_user(course, once(frame(TEXT, b"[" * 1_000_000)))


@attack(*GOES_ON)
def deep_messages(course: Course) -> None:
    flood_sockets_of_user(course, endless(frame(TEXT, b"[" * 65_000)))


@attack(*GOES_ON)
def binary_messages(course: Course) -> None:
    flood_sockets_of_user(course, endless(frame(BINARY, b"x" * 100)))


@attack(*GOES_ON)
def messages_of_unknown_types(course: Course) -> None:
    flood_sockets_of_user(course, endless(frame(TEXT, b'{"type": "subscribe", "data": {"task_id": 1}}')))


@attack(*GOES_ON)
def chat_without_end(course: Course) -> None:
    flood_sockets_of_user(course, endless(frame(TEXT, b'{"type": "chat.message", "data": {"message": "@Ada hello"}}')))


@attack("1000", CLOSED)
def sockets_that_are_closed_at_once(course: Course) -> None:
    flood_sockets_of_user(course, once(frame(CLOSE, b"\x03\xe8")), connections=8)


@attack("1002", CLOSED)
def closes_with_codes_that_are_none(course: Course) -> None:
    flood_sockets_of_user(course, once(frame(CLOSE, b"\x00\x01")), connections=8)


# A socket whose client never answers the close stays for ten seconds.
@attack("4401", "4429", seconds=12)
def junk_tokens_in_addresses(course: Course) -> None:
    flood_sockets(course, "?token=" + "j" * 2000, once(), connections=8)


@attack("4401", "4429", seconds=12)
def junk_tokens_in_messages(course: Course) -> None:
    message = json.dumps({"type": "auth", "data": {"token": "j" * 600}}).encode()
    flood_sockets(course, "", once(frame(TEXT, message)), connections=8)


@attack("1008")
def token_messages_that_are_too_long(course: Course) -> None:
    message = json.dumps({"type": "auth", "data": {"token": "j" * 4000}}).encode()
    flood_sockets(course, "", once(frame(TEXT, message)), connections=8)


@attack("4401", "4429", CLOSED, OPEN, seconds=12)
def sockets_of_nobody(course: Course) -> None:
    """Handshakes with as many offers as there is room for, and then nothing."""
    offers = ", ".join(f"permessage-deflate; server_max_window_bits={8 + number % 8}" for number in range(100))
    protocols = ", ".join(f"p{number}" for number in range(100))
    more = f"Sec-WebSocket-Extensions: {offers}\r\nSec-WebSocket-Protocol: {protocols}\r\n\r\n".encode()
    crowd(course, handshake()[:-2] + more, count=150)


@attack("400", "403", "426", "429")
def handshakes_without_a_key(course: Course) -> None:
    opening = b"GET /ws HTTP/1.1\r\nHost: hive\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    flood(course, opening, once(), connections=8)


@attack("403", "429")
def handshakes_of_another_site(course: Course) -> None:
    opening = handshake()[:-2] + b"Origin: https://elsewhere.example\r\n\r\n"
    flood(course, opening, once(), connections=8)


@attack("403", "404", "429")
def handshakes_where_nothing_is(course: Course) -> None:
    flood(course, handshake().replace(b"GET /ws", b"GET /nowhere"), once(), connections=8)


@attack("4429", OPEN)
def more_sockets_than_a_user_may_have(course: Course) -> None:
    flood_sockets_of_user(course, once(), connections=40)


@attack("1000", "4429", CLOSED, seconds=8)
def replays_of_everything_again_and_again(course: Course) -> None:
    query = f"?token={course.target.token}&since=0"
    flood_sockets(course, query, once(frame(CLOSE, b"\x03\xe8")), connections=8)


@attack("4429", OPEN, CLOSED)
def replays_that_nobody_reads(course: Course) -> None:
    crowd(
        course,
        handshake(f"?token={course.target.token}&since=0"),
        count=course.size(60, short=10),
        reads=False,
        window=2048,
    )
