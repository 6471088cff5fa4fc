"""Counts the bytes that each person sends and has kept, as plain ASGI: bodies, and answers under a key."""

from dataclasses import dataclass
from uuid import UUID

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.limiting import CALLER, find_caller, refuse
from app.core.bearer import bearer_token
from app.limits.bytes_sent import TooManyBytes
from app.limits.known_tokens import KnownCaller
from app.state import State

# Whatever comes with these is read by nobody.
WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(slots=True)
class _Announced:
    """What the headers say of a request. One with a key has its answer kept for a day."""

    length: int = 0
    is_chunked: bool = False
    has_key: bool = False

    @classmethod
    def of(cls, scope: Scope) -> "_Announced":
        given = dict(scope["headers"])
        length = given.get(b"content-length", b"")
        size = int(length) if length.isdigit() else 0
        return cls(size, b"transfer-encoding" in given, b"idempotency-key" in given)

    @property
    def least(self) -> int:
        """How much it has at least; 0 if nothing of it is to be counted."""
        return self.length or int(self.is_chunked or self.has_key)


class BodyBytes:
    """Refuses bodies of who has sent as much as one may within a day, before they are read.

    A body of unknown length, and the first one after a start that comes with an API token, are counted when they have
    been read; so are answers that are kept.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state: State | None = getattr(scope["app"].state, "hive", None)
        if scope["type"] != "http" or scope["method"] in WITHOUT_BODY or state is None or not state.limits.bytes.is_on:
            await self.app(scope, receive, send)
            return
        announced = _Announced.of(scope)
        if announced.least:
            await self._count(announced, scope, state, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _count(self, announced: _Announced, scope: Scope, state: State, receive: Receive, send: Send) -> None:
        person_id = _person(scope, state)
        if person_id is not None:
            try:
                await state.limits.bytes.take(person_id, announced.least)
            except TooManyBytes as error:
                await refuse(error, scope, receive, send)
                return
            if not announced.is_chunked and not announced.has_key:
                await self.app(scope, receive, send)
                return
        counted = announced.least if person_id is not None else 0
        passed = _Passed(receive, send, announced)
        try:
            await self.app(
                scope,
                passed.receive if announced.is_chunked else receive,
                passed.send if announced.has_key else send,
            )
        finally:
            if passed.bytes > counted and (person_id := person_id or _person(scope, state)):
                state.limits.bytes.note(person_id, passed.bytes - counted)


class _Passed:
    """Counts what isn't announced as it passes: a body in chunks, an answer that is kept."""

    def __init__(self, receive: Receive, send: Send, announced: _Announced) -> None:
        self.bytes = announced.length
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        message = await self._receive()
        self.bytes += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        self.bytes += len(message.get("body", b""))
        await self._send(message)


def _person(scope: Scope, state: State) -> UUID | None:
    """The person whose token it is, if that's known: by now, where it wasn't when the request came."""
    caller: KnownCaller | None = scope[CALLER] or find_caller(bearer_token(scope) or "", state)
    return caller.person_id if caller else None
