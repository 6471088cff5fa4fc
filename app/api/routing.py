"""The one class of routes, which prepares a plain request itself. See ADR 55.

FastAPI works out anew for each request what an endpoint needs, which costs more than most of HIVE's answers. A
`HiveRoute` reads the same declarations once, when it's made, and calls the same functions. A request that isn't plain,
and an endpoint that declares more than is known here, goes through FastAPI as ever: what is unknown is never skipped.
"""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message, Receive, Scope, Send

from app.api.documentation import operation_id
from app.api.limiting import CALLER
from app.api.once import Handler, SecretNotKept, answer_once, body_of
from app.api.plans import NotPlain, Plan
from app.api.problems import EVERY_ROUTE, answer_to, responses
from app.dependencies import READING_METHODS, TRANSACTION, StrictParameters, get_transaction, state_of

# As much of a stranger's request is validated before anybody asks for a token.
MAX_STRANGER_BYTES = 2_000


def api_router(prefix: str, *, tag: str, route_class: type["HiveRoute"] | None = None) -> APIRouter:
    """The routes below `/api/v1` and the prefix. They are put into the application's own router, which is quicker."""
    return APIRouter(
        prefix=f"/api/v1{prefix}",
        tags=[tag],
        route_class=route_class or HiveRoute,
        responses=EVERY_ROUTE | responses(429),
        dependencies=[StrictParameters],
        generate_unique_id_function=operation_id,
    )


class HiveRoute(APIRoute):
    """A route with one transaction at most, which is committed when the answer is made and before it leaves."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A subclass that wraps the general handler means all requests.
        is_wrapped = type(self).get_route_handler is not HiveRoute.get_route_handler
        self.plan = None if is_wrapped else Plan.of(self)
        if self.plan is not None:
            self._general_app, self.app = self.app, self._serve
            answer = self.plan.answer
            # A read that is one statement asks the database for it, and has no use for a transaction.
            self._handle_plain = self._in_transaction(answer) if self.plan.calls(get_transaction) else answer

    def get_route_handler(self) -> Handler:
        """The handler of requests that aren't plain."""
        return self._in_transaction(super().get_route_handler())

    def _in_transaction(self, handle: Handler) -> Handler:
        async def handle_in_transaction(request: Request) -> Response:
            database = state_of(request).database
            async with database.unit_of_work(is_reading=request.method in READING_METHODS) as transaction:
                request.scope[TRANSACTION] = transaction
                return await answer_once(request, handle, self.answer_to_keep)

        return handle_in_transaction

    def answer_to_keep(self, _request: Request, response: Response) -> Response:
        """What the same request under the same `Idempotency-Key` is answered next time."""
        return response

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.plan is not None
        request = Request(scope, receive, send)
        content = await body_of(request) if self.plan.body else b""
        try:
            _refuse_much_of_stranger(scope, content)
            self.plan.bind(request, content)
        except NotPlain:
            await self._general_app(scope, _again(content, receive) if self.plan.body else receive, send)
            return
        response = await self._handle_plain(request)
        await response(scope, receive, send)


class SecretRoute(HiveRoute):
    """For answers with a secret, which may be nowhere but in the answer."""

    def answer_to_keep(self, request: Request, response: Response) -> Response:
        return response if response.status_code >= 400 else answer_to(request, SecretNotKept())


def _refuse_much_of_stranger(scope: Scope, content: bytes) -> None:
    """Leave a large request without a known token to FastAPI, which asks for the token before it validates."""
    if scope.get(CALLER) is None and len(content) + len(scope["query_string"]) > MAX_STRANGER_BYTES:
        raise NotPlain


def _again(content: bytes, receive: Receive) -> Receive:
    """The body, which was received already, and then whatever comes."""
    messages: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
