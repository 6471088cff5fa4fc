"""The one class of routes, which prepares a plain request itself. See ADR 55.

FastAPI works out anew for each request what an endpoint needs, which costs more than most of HIVE's answers. A
`HiveRoute` reads the same declarations once, when it's made, and calls the same functions. A request that isn't plain,
and an endpoint that declares more than is known here, goes through FastAPI as ever: what is unknown is never skipped.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any, Protocol, get_args, get_origin
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.params import Form
from fastapi.routing import APIRoute, serialize_response
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from app.api.documentation import operation_id
from app.api.once import Handler, SecretNotKept, answer_once
from app.api.problems import EVERY_ROUTE, answer_to, responses
from app.dependencies import TRANSACTION, StrictParameters, state_of

JSON = "application/json"
# Longer ones aren't kept: they are seldom the same.
MAX_QUERY_BYTES = 500
LISTS = (list, set, frozenset, tuple)


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


class NotPlain(Exception):
    """The request is FastAPI's to understand, or to refuse."""


class HiveRoute(APIRoute):
    """A route with one transaction, which is committed when the answer is made and before it leaves."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.plan = Plan.of(self)
        if self.plan is not None:
            self._general_app, self.app = self.app, self._serve
            self._handle_plain = self._in_transaction(self.plan.answer)

    def get_route_handler(self) -> Handler:
        """The handler of requests that aren't plain."""
        return self._in_transaction(super().get_route_handler())

    def _in_transaction(self, handle: Handler) -> Handler:
        async def handle_in_transaction(request: Request) -> Response:
            database = state_of(request).database
            async with database.unit_of_work() as transaction:
                request.scope[TRANSACTION] = transaction
                return await answer_once(request, handle, self.answer_to_keep)

        return handle_in_transaction

    def answer_to_keep(self, _request: Request, response: Response) -> Response:
        """What the same request under the same `Idempotency-Key` is answered next time."""
        return response

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.plan is not None
        request = Request(scope, receive, send)
        content = await _body_of(request) if self.plan.body else b""
        try:
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


async def _body_of(request: Request) -> bytes:
    try:
        return await request.body()
    except ClientDisconnect:
        # As FastAPI has it. Nobody reads the answer, but it's counted, and it's no fault of ours.
        raise HTTPException(400) from None


def _again(content: bytes, receive: Receive) -> Receive:
    """The body, which was received already, and then whatever comes."""
    messages: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


class Field(Protocol):
    """What FastAPI has made of a parameter's declaration."""

    name: str

    @property
    def alias(self) -> str: ...

    @property
    def field_info(self) -> FieldInfo: ...

    def get_default(self) -> Any: ...

    def validate(self, value: Any, values: dict[str, Any], *, loc: tuple[int | str, ...]) -> tuple[Any, Any]: ...


@dataclass(frozen=True, slots=True)
class HeaderParameter:
    """A header that the endpoint or one of its dependencies takes."""

    name: str
    header: str
    field: Field

    def value(self, request: Request) -> object:
        given = request.headers.get(self.header)
        if given is None:
            if self.field.field_info.is_required():
                raise NotPlain
            return self.field.get_default()
        value, errors = self.field.validate(given, {}, loc=("header", self.header))
        if errors:
            raise NotPlain
        return value


@dataclass(frozen=True, slots=True)
class Step:
    """A call of a dependency or of the endpoint. `given` says from which steps before it gets what."""

    call: Callable[..., Any]
    given: tuple[tuple[str, int], ...]
    request_names: tuple[str, ...]
    headers: tuple[HeaderParameter, ...]


class QueryParameters:
    """The model that takes the query parameters."""

    def __init__(self, name: str, model: type[BaseModel]) -> None:
        self.name = name
        self._model = model
        self._lists = {field.alias or name for name, field in model.model_fields.items() if _is_list(field.annotation)}
        # The same few are asked for again and again.
        self._read_kept = lru_cache(maxsize=256)(self._read)

    def value(self, query: bytes) -> BaseModel:
        return self._read_kept(query) if len(query) <= MAX_QUERY_BYTES else self._read(query)

    def _read(self, query: bytes) -> BaseModel:
        given = parse_qs(query.decode("latin-1"), keep_blank_values=True)
        if any(len(values) > 1 for name, values in given.items() if name not in self._lists):
            raise NotPlain
        try:
            return self._model.model_validate(
                {name: values if name in self._lists else values[0] for name, values in given.items()}
            )
        except ValidationError:
            raise NotPlain from None


def _is_list(annotation: object) -> bool:
    return get_origin(annotation) in LISTS or any(_is_list(argument) for argument in get_args(annotation))


class BodyParameter:
    """The model that takes the body."""

    def __init__(self, name: str, model: type[BaseModel], default: object) -> None:
        self.name = name
        self._model = model
        self._default = default

    def value(self, request: Request, content: bytes) -> object:
        if not content and self._default is not None:
            return self._default
        if request.headers.get("content-type", "").partition(";")[0].rstrip() != JSON:
            raise NotPlain
        try:
            # In two steps, as FastAPI does it: pydantic's own reading of JSON takes and refuses other things.
            return self._model.model_validate(json.loads(content))
        except (ValueError, RecursionError):
            raise NotPlain from None


@dataclass(frozen=True, slots=True)
class Plan:
    """How the plain requests of a route are answered."""

    route: APIRoute
    steps: tuple[Step, ...]
    path_names: tuple[str, ...]
    query: QueryParameters | None
    body: BodyParameter | None
    response_name: str | None

    @classmethod
    def of(cls, route: APIRoute) -> "Plan | None":
        """The plan of the route; None if it declares what isn't known here."""
        try:
            return cls(
                route,
                tuple(_steps_of(route.dependant)),
                tuple(field.name for field in route.dependant.path_params),
                _query_of(route.dependant),
                _body_of_route(route),
                route.dependant.response_param_name,
            )
        except NotPlain:
            return None

    def bind(self, request: Request, content: bytes) -> None:
        """Note in the request what its parts are. Nothing is done yet.

        Raises:
            NotPlain: a part isn't there, or isn't as it should be.
        """
        scope = request.scope
        query: bytes = scope["query_string"]
        if self.query is None and query:
            raise NotPlain
        values: dict[str, object] = {name: scope["path_params"][name] for name in self.path_names}
        if self.query:
            values[self.query.name] = self.query.value(query)
        if self.body:
            values[self.body.name] = self.body.value(request, content)
        headers: list[dict[str, object]] = []
        for step in self.steps:
            headers.append({})
            for each in step.headers:
                headers[-1][each.name] = each.value(request)
        scope[_BOUND] = values, headers

    async def answer(self, request: Request) -> Response:
        values, headers = request.scope.pop(_BOUND)
        told = Response()
        if self.response_name:
            values[self.response_name] = told
        # The endpoint is the last one that is called.
        arguments_of = [*headers[:-1], values | headers[-1]]
        results: list[Any] = []
        for step, arguments in zip(self.steps, arguments_of, strict=True):
            for name, place in step.given:
                arguments[name] = results[place]
            for name in step.request_names:
                arguments[name] = request
            results.append(await step.call(**arguments))
        result = results[-1]
        return result if isinstance(result, Response) else await self._response(result, told)

    async def _response(self, result: object, told: Response) -> Response:
        content = await serialize_response(field=self.route.response_field, response_content=result, dump_json=True)
        headers = {name: value for name, value in told.headers.items() if name != "content-length"}
        return Response(content, self.route.status_code or 200, headers, "application/json")


_BOUND = "hive_bound"


def _steps_of(dependant: Dependant) -> Iterator[Step]:
    """The calls that lead to the endpoint, each once and in order, and its own as the last one."""
    places: dict[Any, int] = {}

    def visit(each: Dependant) -> Iterator[Step]:
        _refuse_unknown(each, is_endpoint=each is dependant)
        given: list[tuple[str, int]] = []
        for needed in each.dependencies:
            if needed.call not in places:
                yield from visit(needed)
            if needed.name:
                given.append((needed.name, places[needed.call]))
        assert each.call is not None
        places[each.call] = len(places)
        names = (each.request_param_name, each.http_connection_param_name)
        headers = (HeaderParameter(field.name, field.alias, field) for field in each.header_params)
        yield Step(each.call, tuple(given), tuple(name for name in names if name), tuple(headers))

    return visit(dependant)


def _refuse_unknown(dependant: Dependant, *, is_endpoint: bool) -> None:
    """Leave to FastAPI what declares more than a `Step` has, and what isn't an asynchronous function."""
    call = dependant.call
    function = call if hasattr(call, "__code__") else getattr(call, "__call__", None)  # noqa: B004  # An object may be called.
    unknown = [
        not iscoroutinefunction(function) or isasyncgenfunction(function),
        dependant.cookie_params,
        dependant.websocket_param_name,
        dependant.background_tasks_param_name,
        dependant.security_scopes_param_name,
        not is_endpoint
        and (dependant.path_params or dependant.query_params or dependant.body_params or dependant.response_param_name),
    ]
    if any(unknown):
        raise NotPlain


def _query_of(dependant: Dependant) -> QueryParameters | None:
    if not dependant.query_params:
        return None
    [field, *others] = dependant.query_params
    if others:
        raise NotPlain
    return QueryParameters(field.name, _model_of(field))


def _body_of_route(route: APIRoute) -> BodyParameter | None:
    if route.body_field is None:
        return None
    [field, *others] = route.dependant.body_params
    if others or isinstance(field.field_info, Form):
        raise NotPlain
    default = None if field.field_info.is_required() else field.get_default()
    return BodyParameter(field.name, _model_of(field), default)


def _model_of(field: Field) -> type[BaseModel]:
    annotation: object = field.field_info.annotation
    if not isinstance(annotation, type) or not issubclass(annotation, BaseModel):
        raise NotPlain
    return annotation
