"""Errors of the token endpoint in OAuth's words (RFC 6749, section 5.2) beside those of every problem."""

import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError

from app.api.problems import INTERNAL_ERROR, answer_to, note_members, validation_error_of
from app.api.routing import HiveRoute
from app.core.errors import HiveError, MalformedInput, from_database
from app.schemas.auth import TokenForm
from app.services.session_service import InvalidRefreshToken

# What isn't listed is for the client to mend.
ERRORS = {
    401: "invalid_grant",
    429: "temporarily_unavailable",
    500: "server_error",
    503: "temporarily_unavailable",
}
# The characters that an `error_description` may have.
_NOT_ALLOWED = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")


class UnsupportedGrantType(HiveError):
    status = 400
    code = "unsupported_grant_type"

    def __init__(self) -> None:
        super().__init__("The grants are password and refresh_token.", error="unsupported_grant_type")


class OAuthRoute(HiveRoute):
    """Adds `error` and `error_description` to each problem that the endpoint answers with."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_in_oauths_words(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                return answer_to(request, in_oauths_words(validation_error_of(error)))
            except Exception as error:
                known = error if isinstance(error, HiveError) else from_database(error)
                if known is None:
                    # It's logged and answered where all faults of ours are.
                    note_members(request.scope, {"error": "server_error", "error_description": INTERNAL_ERROR})
                    raise
                return answer_to(request, in_oauths_words(known))

        return handle_in_oauths_words


def in_oauths_words(error: HiveError) -> HiveError:
    """Return the error with OAuth's word for it."""
    if isinstance(error, InvalidRefreshToken):
        # Clients look for the word in a 400, and take a 401 for the lack of a token. A wrong password keeps the status
        # that it has at `/auth/login`.
        error = HiveError(error.detail, status=400, code=error.error_code, error="invalid_grant")
    word = ERRORS.get(error.status_code, "invalid_request")
    error.extra = {"error": word, "error_description": _NOT_ALLOWED.sub("'", error.detail), **error.extra}
    return error


def parameter(form: TokenForm, name: str) -> str:
    """A parameter that the grant needs.

    Raises:
        MalformedInput: it's not there.
    """
    value: str | None = getattr(form, name)
    if value is None:
        detail = f"The grant {form.grant_type} needs the parameter {name}."
        raise MalformedInput(detail, field=name, where="body", code="missing_for_grant")
    return value
