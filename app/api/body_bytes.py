"""Counts the bytes of the bodies that each person sends, as plain ASGI."""

from uuid import UUID

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.bearer import bearer_token
from app.api.limiting import refuse
from app.core.security import InvalidToken, read_token
from app.limits.bytes_sent import TooManyBytes
from app.state import State

# Whatever comes with these is read by nobody.
WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})


class BodyBytes:
    """Refuses bodies of who has sent as much as one may within a day, before they are read.

    A body of unknown length, and the first one after a start that comes with an API token, are counted when they have
    been read.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state: State | None = getattr(scope["app"].state, "hive", None)
        if scope["type"] != "http" or scope["method"] in WITHOUT_BODY or state is None or not state.limits.bytes.is_on:
            await self.app(scope, receive, send)
            return
        announced, is_chunked = _length_of(scope)
        if not announced and not is_chunked:
            await self.app(scope, receive, send)
            return
        person_id = _person(scope, state)
        if person_id is not None:
            try:
                # Of a body of unknown length there is one byte at least.
                await state.limits.bytes.take(person_id, announced or 1)
            except TooManyBytes as error:
                await refuse(error, scope, receive, send)
                return
        body = _Counted(receive) if is_chunked else None
        try:
            await self.app(scope, body.receive if body else receive, send)
        finally:
            _count_afterwards(scope, state, body.bytes if body else announced, is_counted=person_id is not None)


class _Counted:
    def __init__(self, receive: Receive) -> None:
        self.bytes = 0
        self._receive = receive

    async def receive(self) -> Message:
        message = await self._receive()
        self.bytes += len(message.get("body", b""))
        return message


def _count_afterwards(scope: Scope, state: State, size: int, *, is_counted: bool) -> None:
    already = (_length_of(scope)[0] or 1) if is_counted else 0
    person_id = _person(scope, state) if size > already else None
    if person_id is not None:
        state.limits.bytes.note(person_id, size - already)


def _length_of(scope: Scope) -> tuple[int, bool]:
    """How long the body is as far as it's announced, and whether it comes in chunks of whatever length."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value), False
        if name == b"transfer-encoding":
            return 0, True
    return 0, False


def _person(scope: Scope, state: State) -> UUID | None:
    """Whose token it is, as far as that's known without a look-up: the account, or of an agent its owner."""
    token = bearer_token(scope) or ""
    if signed_in := state.sign_ins.memory.recall(token):
        return signed_in.person_id
    if person_id := state.limits.known_tokens.person_of(token):
        return person_id
    try:
        # Agents have no sessions.
        return read_token(token, key=state.settings.jwt_key).user_id
    except InvalidToken:
        return None
