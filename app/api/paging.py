"""The next page of a list as a `Link` header (RFC 8288)."""

from typing import Any
from urllib.parse import parse_qsl, urlencode

from fastapi import Request, Response
from starlette.types import Scope

from app.api.prefix import public_path
from app.services.pages import Page


def link_next_page(request: Request, response: Response, page: Page[Any]) -> None:
    """Link the page that follows, relative to this server, with the same filters and sort."""
    if page.next_cursor is not None:
        response.headers["Link"] = next_page(request.scope, page.next_cursor)


def next_page(scope: Scope, cursor: str) -> str:
    """The header of an answer to a request that had all parameters of the next one, but for the cursor."""
    given = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    others = urlencode([(name, value) for name, value in given if name != "cursor"])
    return f'<{public_path(scope, scope["path"])}?{others}{"&" if others else ""}cursor={cursor}>; rel="next"'
