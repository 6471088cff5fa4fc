"""Requests under an `Idempotency-Key`: keeping their answers, and giving them again."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from app.api.problems import answer_to
from app.core.errors import Conflict, HiveError, from_database
from app.services.idempotency_service import KeptAnswer, OneTry, Replayed

KEPT_HEADERS = ("content-type", "location", "etag", "link", "www-authenticate")
# A header or a body that can't be read, and a condition that was left out.
NOT_UNDERSTOOD = (422, 428)
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class OnceRoute(APIRoute):
    """Keeps the answer of a request that `once_by` has begun, in the transaction that is committed afterwards.

    A refusal (4xx) is an outcome like any other. What broke (5xx) is not kept, and can be tried again; nor is what
    was not understood, for its effect was never tried.
    """

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def handle_once(request: Request) -> Response:
            try:
                response = await handle(request)
            except Exception as error:
                one_try = _one_try_of(request)
                refusal = error if isinstance(error, HiveError) else from_database(error)
                if one_try is None or refusal is None or not _is_outcome(refusal):
                    raise
                await one_try.undo()
                response = answer_to(request, refusal)
            if one_try := _one_try_of(request):
                await one_try.keep(kept(self.answer_to_keep(request, response)))
            return response

        return handle_once

    def answer_to_keep(self, _request: Request, response: Response) -> Response:
        """What the same request is answered next time."""
        return response


class SecretNotKept(Conflict):
    code = "secret_not_kept"

    def __init__(self) -> None:
        super().__init__("This was done before. Its answer had a secret, which is shown once and not kept.")


class SecretOnceRoute(OnceRoute):
    """For answers with a secret, which may be nowhere but in the answer."""

    def answer_to_keep(self, request: Request, response: Response) -> Response:
        return response if response.status_code >= 400 else answer_to(request, SecretNotKept())


def _is_outcome(refusal: HiveError) -> bool:
    return refusal.status_code < 500 and refusal.status_code not in NOT_UNDERSTOOD


def _one_try_of(request: Request) -> OneTry | None:
    return getattr(request.state, "one_try", None)


def kept(response: Response) -> KeptAnswer:
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    return KeptAnswer(response.status_code, headers, bytes(response.body).decode())


def answer_again(_request: Request, replayed: Exception) -> Response:
    """The handler of `Replayed`."""
    assert isinstance(replayed, Replayed)
    answer = replayed.answer
    headers = {**answer.headers, "Idempotency-Replayed": "true"}
    return Response(answer.body, status_code=answer.status, headers=headers)
