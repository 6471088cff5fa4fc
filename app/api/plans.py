"""How the plain requests of a route are prepared and answered, as its declaration says. See ADR 55."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from inspect import isasyncgenfunction, iscoroutinefunction
from types import NoneType, UnionType
from typing import Annotated, Any, Protocol, Union, get_args, get_origin
from urllib.parse import parse_qs
from uuid import UUID

from fastapi import Request, Response
from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies.models import Dependant
from fastapi.params import Body, Header, Path, Query
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute, serialize_response
from fastapi.utils import is_body_allowed_for_status_code
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from starlette.convertors import UUIDConvertor
from starlette.types import Scope

JSON = "application/json"
# Longer ones aren't kept: they are seldom the same.
MAX_QUERY_BYTES = 500
LISTS = (list, set, frozenset, tuple)
# What the parameter of a header may be: each is given as one text.
OF_ONE_HEADER = (str, int, NoneType)
_BOUND = "hive_bound"


class NotPlain(Exception):
    """The request is FastAPI's to understand, or to refuse."""


class Field(Protocol):
    """What FastAPI has made of a parameter's declaration."""

    name: str

    @property
    def alias(self) -> str: ...

    @property
    def field_info(self) -> FieldInfo: ...

    def get_default(self) -> Any: ...

    def validate(self, value: Any, values: dict[str, Any], *, loc: tuple[int | str, ...]) -> tuple[Any, Any]: ...


class HeaderParameter:
    """A header that the endpoint or one of its dependencies takes."""

    def __init__(self, field: Field) -> None:
        self.name = field.name
        self._header = field.alias.lower().encode("latin-1")
        self._field = field
        self._is_required = field.field_info.is_required()
        # It's of a type that nobody can change.
        self._default = None if self._is_required else field.get_default()

    def value(self, scope: Scope) -> object:
        for name, given in scope["headers"]:
            if name == self._header:
                return _valid(self._field, given.decode("latin-1"))
        if self._is_required:
            raise NotPlain
        return self._default


def _valid(field: Field, given: object) -> Any:
    value, errors = field.validate(given, {}, loc=())
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

    def __init__(self, field: Field, model: type[BaseModel]) -> None:
        self.name = field.name
        self._field = field
        self._lists = {each.alias or name for name, each in model.model_fields.items() if _is_list(each.annotation)}
        # The same few are asked for again and again. One with a secret is used once, and must not stay in memory.
        self._read_kept = self._read if getattr(model, "HAS_SECRET", False) else lru_cache(maxsize=256)(self._read)

    def value(self, query: bytes) -> object:
        return self._read_kept(query) if len(query) <= MAX_QUERY_BYTES else self._read(query)

    def _read(self, query: bytes) -> object:
        given = parse_qs(query.decode("latin-1"), keep_blank_values=True)
        if any(len(values) > 1 for name, values in given.items() if name not in self._lists):
            raise NotPlain
        return _valid(
            self._field, {name: values if name in self._lists else values[0] for name, values in given.items()}
        )


def _is_list(annotation: object) -> bool:
    return get_origin(annotation) in LISTS or any(_is_list(argument) for argument in get_args(annotation))


class BodyParameter:
    """The model that takes the body."""

    def __init__(self, field: Field) -> None:
        self.name = field.name
        self._field = field

    def value(self, request: Request, content: bytes) -> object:
        if not content and not self._field.field_info.is_required():
            return self._field.get_default()
        if request.headers.get("content-type", "").partition(";")[0].rstrip() != JSON:
            raise NotPlain
        try:
            # In two steps, as FastAPI does it: pydantic's own reading of JSON takes and refuses other things.
            given = json.loads(content)
        except (ValueError, RecursionError):
            raise NotPlain from None
        return _valid(self._field, given)


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
            _refuse_options(route)
            return cls(
                route,
                tuple(_steps_of(route.dependant)),
                tuple(_path_names_of(route)),
                _query_of(route.dependant),
                _body_of_route(route),
                route.dependant.response_param_name,
            )
        except NotPlain:
            return None

    def calls(self, dependency: Callable[..., Any]) -> bool:
        return any(step.call is dependency for step in self.steps)

    def bind(self, request: Request, content: bytes) -> None:
        """Note in the request what its parts are. Nothing is done yet.

        Raises:
            NotPlain: a part isn't there, or isn't as it should be.
        """
        scope = request.scope
        query: bytes = scope["query_string"]
        if self.query is None and query:
            raise NotPlain
        arguments_of: list[dict[str, object]] = [
            {each.name: each.value(scope) for each in step.headers} if step.headers else {} for step in self.steps
        ]
        # The endpoint is the last one that is called.
        arguments = arguments_of[-1]
        for name in self.path_names:
            arguments[name] = scope["path_params"][name]
        if self.query:
            arguments[self.query.name] = self.query.value(query)
        if self.body:
            arguments[self.body.name] = self.body.value(request, content)
        scope[_BOUND] = arguments_of

    async def answer(self, request: Request) -> Response:
        arguments_of: list[dict[str, object]] = request.scope.pop(_BOUND)
        told = None
        if self.response_name:
            arguments_of[-1][self.response_name] = told = _nothing_told()
        results: list[Any] = []
        for step, arguments in zip(self.steps, arguments_of, strict=True):
            for name, place in step.given:
                arguments[name] = results[place]
            for name in step.request_names:
                arguments[name] = request
            results.append(await step.call(**arguments))
        result = results[-1]
        return result if isinstance(result, Response) else await self._response(result, told)

    async def _response(self, result: object, told: Response | None) -> Response:
        content = await serialize_response(field=self.route.response_field, response_content=result, dump_json=True)
        status = (told and told.status_code) or self.route.status_code or 200
        response = Response(content, status, media_type=JSON)
        if told:
            if not is_body_allowed_for_status_code(status):
                response.body = b""
            # Not as a dictionary: there may be several of one name.
            response.raw_headers.extend(told.raw_headers)
        return response


def _nothing_told() -> Response:
    """What an endpoint gets that takes a `Response`, to set its status and headers, as FastAPI makes it."""
    told = Response()
    told.raw_headers.clear()
    told.status_code = None  # type: ignore[assignment]  # The route's own one, unless the endpoint says so.
    return told


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
        headers = map(HeaderParameter, each.header_params)
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
        dependant.concurrency is not None,
        not all(map(_is_known_header, dependant.header_params)),
        not is_endpoint and _has_more_than_dependency(dependant),
    ]
    if any(unknown):
        raise NotPlain


def _has_more_than_dependency(dependant: Dependant) -> bool:
    """Whether it takes what only an endpoint may here, or is called otherwise than once for all that need it."""
    own = dependant.path_params or dependant.query_params or dependant.body_params or dependant.response_param_name
    scopes = dependant.own_oauth_scopes or dependant.parent_oauth_scopes
    return bool(own or scopes or dependant.scope or not dependant.use_cache)


def _is_known_header(field: Field) -> bool:
    return _is_declared_plainly(field, Header) and _is_of_one_header(field.field_info.annotation)


def _is_of_one_header(annotation: object) -> bool:
    if get_origin(annotation) is Annotated:
        return _is_of_one_header(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return all(map(_is_of_one_header, get_args(annotation)))
    return annotation in OF_ONE_HEADER


def _is_declared_plainly(field: Field, kind: type[FieldInfo]) -> bool:
    """Whether it's read by its one name, and its default taken as it is."""
    declared = field.field_info
    return type(declared) is kind and declared.validation_alias is None and not declared.validate_default


def _refuse_options(route: APIRoute) -> None:
    """Leave to FastAPI what is answered otherwise than with all of a declared model, as JSON."""
    response_class = route.response_class
    unknown = [
        not isinstance(response_class, DefaultPlaceholder) or response_class.value is not JSONResponse,
        route.response_field is None,
        route.response_model_include is not None,
        route.response_model_exclude is not None,
        not route.response_model_by_alias,
        route.response_model_exclude_unset,
        route.response_model_exclude_defaults,
        route.response_model_exclude_none,
        route.stream_item_field is not None,
        route.max_body_size is not None,
        route.dependency_overrides_provider is not None,
    ]
    if any(unknown):
        raise NotPlain


def _path_names_of(route: APIRoute) -> Iterator[str]:
    """The ids in the path, which the router has read already."""
    for field in route.dependant.path_params:
        is_id = field.field_info.annotation is UUID and not field.field_info.metadata and field.alias == field.name
        is_read = isinstance(route.param_convertors.get(field.name), UUIDConvertor)
        if not (is_id and is_read and _is_declared_plainly(field, Path)):
            raise NotPlain
        yield field.name


def _query_of(dependant: Dependant) -> QueryParameters | None:
    if not dependant.query_params:
        return None
    [field, *others] = dependant.query_params
    if others or not _is_declared_plainly(field, Query):
        raise NotPlain
    model = _model_of(field)
    config = model.model_config
    if config.get("populate_by_name") or config.get("validate_by_name"):
        raise NotPlain
    if any(each.validation_alias != each.alias for each in model.model_fields.values()):
        raise NotPlain
    return QueryParameters(field, model)


def _body_of_route(route: APIRoute) -> BodyParameter | None:
    if route.body_field is None:
        return None
    [field, *others] = route.dependant.body_params
    if others or not _is_declared_plainly(field, Body) or getattr(field.field_info, "embed", None):
        raise NotPlain
    _model_of(field)
    return BodyParameter(field)


def _model_of(field: Field) -> type[BaseModel]:
    annotation: object = field.field_info.annotation
    if not isinstance(annotation, type) or not issubclass(annotation, BaseModel):
        raise NotPlain
    return annotation
