"""Every error as `application/problem+json` (RFC 9457), and how the OpenAPI document tells of them."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from app.core.errors import HiveError, problem_document
from app.core.etags import NotModified
from app.schemas.fields import PageQuery, complaint_of

MEDIA_TYPE = "application/problem+json"
INTERNAL_ERROR = "Something went wrong on our side; the request id helps to find it."
_MEMBERS_OF_500 = "hive_members_of_500"
# What the framework itself answers with.
FRAMEWORK_CODES = {
    400: ("malformed_request", "The request can't be read."),
    404: ("not_found", "There is nothing at this address."),
    405: ("method_not_allowed", "This address does not know the method."),
    413: ("body_too_large", "The body is larger than 1 MiB, or it is a form and larger than 64 KiB."),
    415: ("unsupported_encoding", "The body has a Content-Encoding; send it without one."),
}

# Of the faults of one request; the answer has the number of the others.
MAX_FAULTS = 20
# Characters; the name of an unknown field can be as long as a body.
LONGEST_PLACE = 100
LONGEST_POINTER = 300
# How other servers page through their lists.
OTHER_PAGING = frozenset({"skip", "offset", "page"})

log = structlog.stdlib.get_logger(__name__)


class UnusableBody(HTTPException):
    """A fault of the body as a whole. FastAPI lets no other error of reading a body through as it is."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(422, detail)
        self.code = code


class FieldError(BaseModel):
    """One fault of the input. `pointer` is its place (RFC 6901) in the part of the request that `in` names."""

    model_config = ConfigDict(populate_by_name=True)

    pointer: str
    where: str = Field(alias="in", description="`body`, `query`, `path`, `header` or `cookie`")
    code: str
    detail: str


class Problem(BaseModel):
    """An error. Some carry further members that say more, such as `allowed` or `holder`."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None = None
    errors: list[FieldError] | None = Field(default=None, description="The first 20 faults.")
    error_count: int | None = Field(default=None, description="How many faults there are, with those not in `errors`.")
    error: str | None = Field(
        default=None, description="At `/auth/token` alone: the error in OAuth's words (RFC 6749)."
    )
    error_description: str | None = Field(default=None, description="At `/auth/token` alone: `detail` in ASCII.")


def problem_response(
    status: int,
    code: str,
    detail: str,
    *,
    request_id: str | None,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, object] | None = None,
) -> Response:
    body = problem_document(status, code, detail, request_id=request_id, extra=extra)
    # ASCII, so that a lone surrogate in a field's name can be told back and not fail to encode.
    content = json.dumps(body, default=str).encode("ascii")
    return Response(content, status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {}))


def note_members(scope: Scope, members: Mapping[str, object]) -> None:
    """Add these members to the problem document, should the request end in a 500."""
    scope[_MEMBERS_OF_500] = members


def internal_error(scope: Scope, *, request_id: str) -> Response:
    members: Mapping[str, object] | None = scope.get(_MEMBERS_OF_500)
    return problem_response(500, "internal_error", INTERNAL_ERROR, request_id=request_id, extra=members)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of these error answers, besides those that every route can give."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


# What reading and changing something with a version can answer as well.
READ_VERSION: dict[int | str, dict[str, Any]] = {304: {"description": "The caller has this version already."}}
WRITE_VERSION = responses(412, 428)
EVERY_ROUTE = responses(413, 415, 422, 500, 503)


def install_problem_handlers(app: FastAPI) -> None:
    app.add_exception_handler(HiveError, _answer_hive_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(NotModified, _answer_not_modified)


def _request_id(request: Request) -> str | None:
    return request.scope.get("hive_request_id")


def _answer_hive_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HiveError)
    return answer_to(request, error)


def answer_to(request: Request, error: HiveError) -> Response:
    return problem_response(
        error.status_code,
        error.error_code,
        error.detail,
        request_id=_request_id(request),
        headers=error.headers,
        extra=error.extra,
    )


def _answer_not_modified(_request: Request, error: Exception) -> Response:
    assert isinstance(error, NotModified)
    return Response(status_code=304, headers=dict(error.headers))


def _answer_validation_error(request: Request, error: Exception) -> Response:
    """Name each fault and its place, and never echo the input: it may be a password."""
    assert isinstance(error, RequestValidationError)
    answer = answer_to(request, validation_error_of(error, is_list=_is_list(request)))
    _let_go_of_frames(error)
    return answer


def _is_list(request: Request) -> bool:
    """Whether the route has pages that are asked for by `cursor`."""
    route = request.scope.get("route")
    parameters = route.dependant.query_params if isinstance(route, APIRoute) else []
    models = (parameter.field_info.annotation for parameter in parameters)
    return any(isinstance(model, type) and issubclass(model, PageQuery) for model in models)


def validation_error_of(error: RequestValidationError, *, is_list: bool = False) -> HiveError:
    # FastAPI tells the faults of a body again for each dependency that reads it.
    found = list({(*fault["loc"], fault["type"], fault["msg"]): fault for fault in error.errors()}.values())
    faults = [_field_error(fault, error.body) for fault in found[:MAX_FAULTS]]
    if is_list:
        faults = [_with_way_to_page(fault) for fault in faults]
    return _invalid_request(_in_words(faults, len(found)), faults, len(found))


def _invalid_request(detail: str, faults: Sequence[FieldError], count: int) -> HiveError:
    errors = [fault.model_dump(by_alias=True) for fault in faults]
    return HiveError(detail, status=422, code="invalid_request", errors=errors, error_count=count)


def _with_way_to_page(fault: FieldError) -> FieldError:
    name = fault.pointer.removeprefix("/")
    if fault.where != "query" or name not in OTHER_PAGING:
        return fault
    detail = f"There is no {name}; the next page is asked for by `cursor`, which is in the Link header of this one."
    return fault.model_copy(update={"detail": detail})


def _in_words(faults: Sequence[FieldError], count: int) -> str:
    """The first fault with its place, and how many more there are."""
    first = faults[0]
    place = _shortened(first.pointer.removeprefix("/").replace("/", "."), LONGEST_PLACE)
    said = f"{place}: {first.detail}" if place else first.detail
    others = count - 1
    if not others:
        return said
    return f"{said} ({others} more in `errors`)" if count == len(faults) else f"{said} ({others} more)"


def _field_error(fault: Mapping[str, Any], body: Any) -> FieldError:
    where, *path = fault["loc"]
    if fault["type"] == "json_invalid":
        # Its location is an offset in the text, which is no place in a document.
        return FieldError(pointer="", where="body", code="json_invalid", detail="The body is not valid JSON.")
    places = _places_in(body, path) if where == "body" else path
    steps = (_shortened(str(step), LONGEST_PLACE).replace("~", "~0").replace("/", "~1") for step in places)
    pointer = _shortened("".join(f"/{step}" for step in steps), LONGEST_POINTER)
    code, detail = complaint_of(fault)
    return FieldError(pointer=pointer, where=str(where), code=code, detail=detail)


def _shortened(text: str, longest: int) -> str:
    """No answer gives back at length what was sent."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _places_in(body: Any, path: Sequence[str | int]) -> list[str | int]:
    """The steps of the path that are places in the body: pydantic names the choice that it made among models, too."""
    steps: list[str | int] = []
    here = body
    for step in path[:-1]:
        if _is_place(step, here):
            steps.append(step)
            here = here[step]
    return [*steps, *path[-1:]]


def _is_place(step: str | int, here: Any) -> bool:
    if isinstance(here, list):
        return isinstance(step, int) and step < len(here)
    return isinstance(here, dict) and step in here


def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    _let_go_of_frames(error)
    request_id = _request_id(request)
    if (fault := _fault_of_body(request, error)) is not None:
        return answer_to(request, _invalid_request(fault.detail, [fault], 1))
    if error.status_code == 401:
        return problem_response(
            401,
            "unauthorized",
            "A valid access token is needed.",
            request_id=request_id,
            headers=error.headers,
        )
    fallback = (HTTPStatus(error.status_code).name.lower(), HTTPStatus(error.status_code).phrase + ".")
    code, detail = FRAMEWORK_CODES.get(error.status_code, fallback)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = _allowed_methods(request)
    return problem_response(error.status_code, code, detail, request_id=request_id, headers=headers)


def _let_go_of_frames(error: BaseException) -> None:
    """Drop the tracebacks of an error and of those that led to it.

    When a client breaks off its body, or sends what can't be read, FastAPI keeps the error in a variable of the frame
    that raises it. Each would hold the other, and with them all that came of the body, until garbage is collected.
    """
    seen: BaseException | None = error
    while seen is not None:
        seen.__traceback__ = None
        seen = seen.__cause__ or seen.__context__


def _fault_of_body(request: Request, error: HTTPException) -> FieldError | None:
    if isinstance(error, UnusableBody):
        return FieldError(pointer="", where="body", code=error.code, detail=error.detail)
    if error.status_code == 400 and request.scope.get("route") is not None:
        # FastAPI's word for a body that it could not decode, which is malformed input like any other.
        return FieldError(pointer="", where="body", code="unreadable", detail="The body can't be decoded.")
    return None


def _allowed_methods(request: Request) -> str:
    """The methods that the address knows; the framework names those of its first route only."""
    methods: set[str] = set()
    for context in iter_route_contexts(request.app.routes):
        if context.methods and context.path_regex.match(request.scope["path"]):
            methods |= context.methods
    # What is left are the files of the documentation.
    methods = methods or {"GET"}
    # `HeadAsGet` answers it.
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))
