"""A body that is broken off is held no longer than its request lasts."""

import asyncio
import gc
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.types import Message

from app.api.problems import install_problem_handlers


class Named(BaseModel):
    name: str


class Piece(bytes):
    """Of a body; it tells when nothing holds it any more."""

    freed = 0

    def __del__(self) -> None:
        Piece.freed += 1


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    install_problem_handlers(app)

    @app.post("/")
    async def post(body: Named) -> Named:
        return body

    return app


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.usefixtures("no_collector")
async def test_a_broken_off_body_is_freed_without_the_collector(app: FastAPI) -> None:
    freed = Piece.freed

    assert await _status_of_broken_off(app) == 422

    assert Piece.freed == freed + 2


async def _status_of_broken_off(app: FastAPI) -> int:
    """What belongs to the request is gone with this frame, as it is with a server's."""
    pieces = [Piece(b'{"name":'), Piece(b' "A')]
    coming: list[Message] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    del pieces
    coming.append({"type": "http.disconnect"})
    sent: list[Message] = []

    async def receive() -> Message:
        return coming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    await app({"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}, receive, send)
    # The loop closes a generator in a turn of its own.
    await asyncio.sleep(0)
    return int(sent[0]["status"])
