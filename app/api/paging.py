"""The next page of a list as a `Link` header (RFC 8288)."""

from typing import Any

from fastapi import Request, Response

from app.services.pages import Page


def link_next_page(request: Request, response: Response, page: Page[Any]) -> None:
    """Link the page that follows, relative to this server, with the same filters and sort."""
    if page.next_cursor is not None:
        url = request.url.include_query_params(cursor=page.next_cursor)
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
