"""Answers that are the same for all who ask: made once, compressed once, and not sent to who has them."""

import gzip
import hashlib
import re

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

_NO_GZIP = re.compile(r"gzip\s*;\s*q=0(?:\.0*)?\s*(?:,|$)")


class MadeOnce:
    """The bytes of one answer, and the same compressed."""

    def __init__(self, content: bytes, *, media_type: str) -> None:
        self._content = content
        # With no time in it, so that all processes give the same.
        self._compressed = gzip.compress(content, mtime=0)
        self._media_type = media_type
        self._digest = hashlib.sha256(content).hexdigest()[:32]

    def answer(self, request: Request) -> Response:
        is_compressed = _takes_gzip(request.headers)
        # A strong tag stands for these very bytes.
        tag = f'"{self._digest}-gzip"' if is_compressed else f'"{self._digest}"'
        headers = {"ETag": tag, "Vary": "Accept-Encoding", "Cache-Control": "no-cache"}
        if _has(request.headers, tag):
            return Response(status_code=304, headers=headers)
        if not is_compressed:
            return Response(self._content, media_type=self._media_type, headers=headers)
        return Response(self._compressed, media_type=self._media_type, headers={**headers, "Content-Encoding": "gzip"})


def _takes_gzip(headers: Headers) -> bool:
    accepted = headers.get("accept-encoding", "").lower()
    return "gzip" in accepted and not _NO_GZIP.search(accepted)


def _has(headers: Headers, tag: str) -> bool:
    given = [each.strip().removeprefix("W/") for each in headers.get("if-none-match", "").split(",")]
    return tag in given or "*" in given
