"""An error of the caller's holds the body of its request no longer than the request lasts."""

import asyncio
import gc
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message

from app.api.problems import install_problem_handlers

WHOLE: list[Message] = [{"type": "http.request", "body": b"{" * 5000, "more_body": False}]
BROKEN_OFF: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
INVALID: list[Message] = [{"type": "http.request", "body": b'{"name": 1}', "more_body": False}]

ERRORS = (HTTPException, RequestValidationError, ClientDisconnect)


class Named(BaseModel):
    name: str


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
@pytest.mark.parametrize("messages", [WHOLE, BROKEN_OFF, INVALID], ids=["not JSON", "broken off", "invalid"])
async def test_no_frame_outlives_its_refused_request(app: FastAPI, messages: list[Message]) -> None:
    assert await _status(app, iter(messages)) == 422
    assert not [
        each for each in _garbage() if isinstance(each, (HTTPException, RequestValidationError, ClientDisconnect))
    ]


async def _status(app: FastAPI, coming: Iterator[Message]) -> int:
    """Post it. What belongs to the request is gone with this frame, as it is with a server's."""
    sent: list[Message] = []

    async def receive() -> Message:
        return next(coming)

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    # The loop closes a generator in a turn of its own.
    await asyncio.sleep(0)
    return int(sent[0]["status"])


def _garbage() -> list[object]:
    """What only the collector could free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return list(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
