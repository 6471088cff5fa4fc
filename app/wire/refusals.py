"""Answers to what can't be parsed as a request, or must not be."""

import json
from dataclasses import dataclass
from http import HTTPStatus

from uuid_utils import uuid7

from app.core.browser_headers import POLICY, STRICT_POLICY, browser_headers
from app.core.errors import problem_document
from app.wire.endings import Ending

RETRY_SOON = (("Retry-After", "1"),)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A problem document, after which the connection is closed."""

    ending: Ending
    status: int
    code: str
    detail: str
    headers: tuple[tuple[str, str], ...] = ()

    def answer(self, *, is_https: bool) -> bytes:
        """With the headers that every answer has."""
        document = problem_document(self.status, self.code, self.detail, request_id=str(uuid7()))
        body = json.dumps(document).encode("ascii")
        headers = {
            "Content-Type": "application/problem+json",
            "Content-Length": str(len(body)),
            "X-Request-ID": str(document["request_id"]),
            "Connection": "close",
            POLICY: STRICT_POLICY,
            **browser_headers(is_https=is_https),
            **dict(self.headers),
        }
        lines = "".join(f"{name.lower()}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n{lines}\r\n"
        return head.encode("ascii") + body


NOT_HTTP = Refusal(Ending.NOT_HTTP, 400, "bad_request", "This is not a request that HTTP allows.")
TOO_MUCH_OVERHEAD = Refusal(
    Ending.CHUNK_OVERHEAD, 400, "bad_request", "The chunks of the body have more around them than in them."
)
BAD_HANDSHAKE = Refusal(Ending.BAD_HANDSHAKE, 400, "bad_request", "This is not a handshake that sockets begin with.")
OTHER_PROTOCOL = Refusal(
    Ending.BAD_HANDSHAKE,
    426,
    "upgrade_required",
    "Sockets speak WebSocket, version 13, here.",
    # One tells what it could be upgraded to.
    headers=(("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")),
)
HEAD_TOO_SLOW = Refusal(Ending.HEAD_TOO_SLOW, 408, "request_timeout", "The headers didn't come in time.")
BODY_TOO_SLOW = Refusal(Ending.BODY_TOO_SLOW, 408, "request_timeout", "The body came too slowly.")
URL_TOO_LONG = Refusal(Ending.URL_TOO_LONG, 414, "uri_too_long", "The address of the request is too long.")
HEADERS_TOO_LARGE = Refusal(
    Ending.HEADERS_TOO_LARGE, 431, "headers_too_large", "The headers are too many, or too long."
)
_TOO_MANY = "This address has as many connections open as it may have; close some of them."
NO_PLACE = Refusal(Ending.NO_PLACE, 429, "too_many_connections", _TOO_MANY, headers=RETRY_SOON)
EVICTED = Refusal(Ending.EVICTED, 429, "too_many_connections", _TOO_MANY, headers=RETRY_SOON)
STOPS = Refusal(Ending.STOPS, 503, "stopping", "HIVE is stopping; try again shortly.", headers=RETRY_SOON)
