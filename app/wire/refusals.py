"""Answers to what can't be parsed as a request, or must not be."""

import json
from dataclasses import dataclass
from http import HTTPStatus

from uuid_utils import uuid7

from app.core.errors import problem_document


@dataclass(frozen=True, slots=True)
class Refusal:
    """A problem document, after which the connection is closed."""

    status: int
    code: str
    detail: str

    def answer(self) -> bytes:
        document = problem_document(self.status, self.code, self.detail, request_id=str(uuid7()))
        body = json.dumps(document).encode("ascii")
        head = (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {document['request_id']}\r\nconnection: close\r\n\r\n"
        )
        return head.encode("ascii") + body


NOT_HTTP = Refusal(400, "bad_request", "This is not a request that HTTP allows.")
TOO_MUCH_OVERHEAD = Refusal(400, "bad_request", "The chunks of the body have more around them than in them.")
HEAD_TOO_SLOW = Refusal(408, "request_timeout", "The headers didn't come in time.")
BODY_TOO_SLOW = Refusal(408, "request_timeout", "The body came too slowly.")
URL_TOO_LONG = Refusal(414, "uri_too_long", "The address of the request is too long.")
HEADERS_TOO_LARGE = Refusal(431, "headers_too_large", "The headers are too many, or too long.")
TOO_MANY_CONNECTIONS = Refusal(
    429, "too_many_connections", "This address has as many connections open as it may have; close some of them."
)
