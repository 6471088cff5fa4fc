"""What wraps every request, as plain ASGI: request id and log line, `HEAD`, slashes at the end, what bodies may be."""

import re
import time
from collections.abc import Mapping

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid7

from app.api.body_bytes import WITHOUT_BODY
from app.api.measure import METHOD_SENT, count_request, method_of
from app.api.problems import FRAMEWORK_CODES, UnusableBody, internal_error, problem_response
from app.core.json_limits import TooManyParts, require_few_parts
from app.core.logging import bind_request
from app.limits.address import client_of

MAX_BODY_BYTES = 1024 * 1024
# Of a form, which has a password or a token at most. To decode a megabyte of them holds up everybody for 0.2 s.
MAX_FORM_BYTES = 64 * 1024
ANNOUNCE_BODY = frozenset({b"content-length", b"transfer-encoding"})
_ACCEPTABLE_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")

log = structlog.stdlib.get_logger("hive.request")


class RequestContext:
    """Gives each request an id (the caller's own `X-Request-ID` if it's a decent one), logs and counts it, and
    answers for what nobody caught.

    The routes note in this very scope which of them was chosen, so nothing between here and them may copy it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope["hive_request_id"] = request_id
        bind_request(request_id, client_of(scope, scope["app"].state.settings.trusted_proxies))
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
            return
        await self._serve(scope, receive, send, request_id)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        started = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                count_request(scope, status, seconds=time.perf_counter() - started)
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            log.exception("request failed", method=scope["method"], path=scope["path"])
            if status:
                # Half an answer is out; only a broken connection can tell the client that it's not whole.
                raise
            response = internal_error(scope, request_id=request_id)
            await response(scope, receive, send_with_id)
        duration = round((time.perf_counter() - started) * 1000, 1)
        log.info("request", method=method_of(scope), path=scope["path"], status=status, ms=duration)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _ACCEPTABLE_ID.fullmatch(value):
            return str(value.decode("ascii"))
    return str(uuid7())


class TrailingSlash:
    """Lets each path be written with and without a slash at its end, without a redirect."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"} and len(scope["path"]) > 1 and scope["path"].endswith("/"):
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        await self.app(scope, receive, send)


class HeadAsGet:
    """Answers `HEAD` wherever there is a `GET`, with the same headers and without the body.

    The routes see a `GET`. The answer is over for them as for the client once its headers are out, so that a stream of
    events ends there.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        # The server's own scope stays as it is, since the server leaves out the length that a body would have by it.
        await self.app({**scope, "method": "GET", METHOD_SENT: "HEAD"}, receive, send_headers)


class BodyRules:
    """Refuses bodies over 1 MiB, forms over 64 KiB, and encoded ones: at once when the length is announced, else while
    they come in.

    JSON with too many parts is refused as soon as it's there, for all who read bodies.

    A compressed body would have to be limited twice, and no client has to compress what is that small.
    Neither JSON in UTF-8 nor a form has a NUL byte, but Python would take JSON in UTF-16 for good: it's refused too.

    FastAPI's `max_body_size` is no help: it's outermost, and answers an announced length in plain text, in place of a
    problem that has been made already and without the headers of every answer. It knows no limit of forms either.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_plain_read(scope):
            await self.app(scope, receive, send)
            return
        most = MAX_FORM_BYTES if _is_form(scope) else MAX_BODY_BYTES
        if _announced_length(scope) > most:
            await _refuse_body(413, {}, scope, receive, send)
            return
        if _is_encoded(scope):
            await _refuse_body(415, {"Accept-Encoding": "identity"}, scope, receive, send)
            return
        received = 0
        # They are kept for whom it may concern anyway, and are no copies.
        chunks: list[bytes] | None = [] if _is_json(scope) else None

        async def receive_within_limit() -> Message:
            nonlocal received
            message = await receive()
            chunk = message.get("body", b"")
            received += len(chunk)
            if received > most:
                raise HTTPException(413)
            if b"\x00" in chunk:
                raise HTTPException(400)
            if chunks is not None and message["type"] == "http.request":
                chunks.append(chunk)
                if not message.get("more_body"):
                    _require_few_parts(b"".join(chunks))
            return message

        await self.app(scope, receive_within_limit, send)


def _is_plain_read(scope: Scope) -> bool:
    """Whether it's a read that announces no body. No route would look at one."""
    return scope["method"] in WITHOUT_BODY and not any(name in ANNOUNCE_BODY for name, _ in scope["headers"])


def _is_json(scope: Scope) -> bool:
    return any(name == b"content-type" and b"json" in value.lower() for name, value in scope["headers"])


def _is_form(scope: Scope) -> bool:
    return any(name == b"content-type" and b"form" in value.lower() for name, value in scope["headers"])


def _require_few_parts(content: bytes) -> None:
    try:
        require_few_parts(content)
    except TooManyParts as error:
        raise UnusableBody(error.code, error.detail) from None


async def _refuse_body(status: int, headers: Mapping[str, str], scope: Scope, receive: Receive, send: Send) -> None:
    code, detail = FRAMEWORK_CODES[status]
    request_id = scope.get("hive_request_id")
    # The body is not read, and the next request comes by another connection.
    response = problem_response(status, code, detail, request_id=request_id, headers={"Connection": "close", **headers})
    await response(scope, receive, send)


def _is_encoded(scope: Scope) -> bool:
    """Whether there is a body under a `Content-Encoding` that changes it."""
    headers = scope["headers"]
    codings = b",".join(value for name, value in headers if name == b"content-encoding").split(b",")
    is_changed = any(coding.strip().lower() not in {b"", b"identity"} for coding in codings)
    return is_changed and any(_announces_body(name, value) for name, value in headers)


def _announces_body(name: bytes, value: bytes) -> bool:
    return name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 ") != b"")


def _announced_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
