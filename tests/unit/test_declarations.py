"""What a route may declare, and a `HiveRoute` has to do as FastAPI does it: by its plan, or by having none."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Annotated, Any
from uuid import UUID

import httpx2
import pytest
from fastapi import APIRouter, BackgroundTasks, Body, Cookie, Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, ConfigDict

from app.api.routing import HiveRoute

ID = UUID(int=1)


class Tree(BaseModel):
    model_config = ConfigDict(extra="forbid")

    height: int | None = None
    kinds: list[str] = []


class NamedTwice(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    height: Annotated[int, Query(alias="h")] = 1


def refuse(_: Tree) -> Tree:
    raise ValueError("It may not be planted.")


async def with_id(tree_id: UUID) -> str:
    return str(tree_id)


async def with_short_id(tree_id: Annotated[str, Path(max_length=3)]) -> str:
    return tree_id


async def with_converted_id(tree_id: int) -> str:
    return type(tree_id).__name__


async def with_text_for_an_id(tree_id: Annotated[str, Path()]) -> str:
    return type(tree_id).__name__


async def with_body(tree: Tree) -> Tree:
    return tree


async def with_checked_body(tree: Annotated[Tree, AfterValidator(refuse), Body()]) -> Tree:
    return tree


async def with_embedded_body(tree: Annotated[Tree, Body(embed=True)]) -> Tree:
    return tree


async def with_default_body(tree: Annotated[Tree, Body()] = Tree(height=7)) -> Tree:  # noqa: B008
    return tree


async def with_checked_default(tree: Annotated[Tree, Body(validate_default=True)] = "no tree") -> Tree:  # type: ignore[assignment]
    return tree


async def with_query(query: Annotated[Tree, Query()]) -> Tree:
    return query


async def with_checked_query(query: Annotated[Tree, AfterValidator(refuse), Query()]) -> Tree:
    return query


async def with_two_names(query: Annotated[NamedTwice, Query()]) -> int:
    return query.height


async def with_header(x_height: Annotated[int, Header(ge=1)] = 7) -> int:
    return x_height


async def with_header_of_another_name(height: Annotated[str, Header(validation_alias="X-Must")] = "absent") -> str:
    return height


async def with_model_of_headers(tree: Annotated[Tree, Header()]) -> Tree:
    return tree


async def with_list_of_headers(x_kind: Annotated[list[str] | None, Header()] = None) -> list[str]:
    return x_kind or []


async def with_cookie(height: Annotated[str, Cookie()] = "absent") -> str:
    return height


async def with_status(response: Response) -> str:
    response.status_code = 202
    return "planted"


async def with_status_without_body(response: Response) -> str:
    response.status_code = 204
    return "planted"


async def with_two_headers(response: Response) -> str:
    response.set_cookie("height", "1")
    response.set_cookie("kind", "oak")
    response.headers["X-Height"] = "1"
    return "planted"


async def with_own_response() -> Response:
    return PlainTextResponse("planted", 202)


async def with_model() -> Tree:
    return Tree()


async def with_text() -> str:
    return "planted"


async def with_anything():  # type: ignore[no-untyped-def]  # noqa: ANN201  # That is what's declared here.
    return {"height": 1}


async def with_nothing() -> None:
    return None


async def with_background_tasks(tasks: BackgroundTasks, response: Response) -> str:
    tasks.add_task(response.headers.update, {"X-Never": "sent"})
    return "planted"


async def counted(request: Request) -> int:
    calls: Iterator[int] = getattr(request.state, "calls", count())
    request.state.calls = calls
    return next(calls)


async def counted_by_another(number: Annotated[int, Depends(counted, use_cache=False)]) -> int:
    return number


async def counted_once_by_another(number: Annotated[int, Depends(counted)]) -> int:
    return number


async def with_two_calls(
    one: Annotated[int, Depends(counted, use_cache=False)], other: Annotated[int, Depends(counted_by_another)]
) -> list[int]:
    return [one, other]


async def with_one_call(
    one: Annotated[int, Depends(counted)], other: Annotated[int, Depends(counted_once_by_another)]
) -> list[int]:
    return [one, other]


async def with_calls_of_two_scopes(
    one: Annotated[int, Depends(counted, scope="function")], other: Annotated[int, Depends(counted_once_by_another)]
) -> list[int]:
    return [one, other]


@dataclass(frozen=True)
class Case:
    """What is declared, how it's asked, and whether the plan knows it."""

    endpoint: Callable[..., Awaitable[Any]]
    is_planned: bool
    asks: tuple[dict[str, Any], ...] = ({},)
    method: str = "GET"
    path: str = "/trees"
    options: dict[str, Any] = field(default_factory=dict)
    is_wrapped: bool = False


def of_id(endpoint: Callable[..., Awaitable[Any]], path: str, *, is_planned: bool = False) -> Case:
    asks = tuple({"url": f"/trees/{given}"} for given in (ID, "5", "too-long"))
    return Case(endpoint, is_planned, asks, path=path)


def of_body(endpoint: Callable[..., Awaitable[Any]], *, is_planned: bool) -> Case:
    bodies: list[Any] = [{}, {"height": 5}, {"tree": {"height": 5}}, {"height": "tall"}, None, [], {"kinds": ["oak"]}]
    asks = ({}, *({"json": body} for body in bodies), {"content": b'{"height": 5}'})
    return Case(endpoint, is_planned, asks, method="POST")


def of_query(endpoint: Callable[..., Awaitable[Any]], *, is_planned: bool) -> Case:
    queries = ("", "height=5", "height=tall", "height=5&height=6", "kinds=oak&kinds=ash", "h=5", "h=5&height=6")
    return Case(endpoint, is_planned, tuple({"url": f"/trees?{query}"} for query in queries))


def of_headers(endpoint: Callable[..., Awaitable[Any]], *, is_planned: bool) -> Case:
    given = [
        [],
        [("X-Height", "5")],
        [("X-Height", "0")],
        [("X-Must", "there")],
        [("Height", "5")],
        [("X-Kind", "oak"), ("X-Kind", "ash")],
        [("Cookie", "height=5")],
    ]
    return Case(endpoint, is_planned, tuple({"headers": headers} for headers in given))


CASES = {
    "id": of_id(with_id, "/trees/{tree_id:uuid}", is_planned=True),
    "id that FastAPI reads": of_id(with_id, "/trees/{tree_id}"),
    "id of few characters": of_id(with_short_id, "/trees/{tree_id}"),
    "number in the path": of_id(with_converted_id, "/trees/{tree_id}"),
    "id as text": of_id(with_text_for_an_id, "/trees/{tree_id:uuid}"),
    "body": of_body(with_body, is_planned=True),
    "body with a check": of_body(with_checked_body, is_planned=True),
    "body below a name": of_body(with_embedded_body, is_planned=False),
    "body that may be missing": of_body(with_default_body, is_planned=True),
    "body whose default is checked": of_body(with_checked_default, is_planned=False),
    "query": of_query(with_query, is_planned=True),
    "query with a check": of_query(with_checked_query, is_planned=True),
    "query of two names": of_query(with_two_names, is_planned=False),
    "header": of_headers(with_header, is_planned=True),
    "header of another name": of_headers(with_header_of_another_name, is_planned=False),
    "model of headers": of_headers(with_model_of_headers, is_planned=False),
    "list of headers": of_headers(with_list_of_headers, is_planned=False),
    "cookie": of_headers(with_cookie, is_planned=False),
    "status": Case(with_status, is_planned=True),
    "status without a body": Case(with_status_without_body, is_planned=True),
    "status of the route": Case(with_text, is_planned=True, options={"status_code": 201}),
    "two headers of one name": Case(with_two_headers, is_planned=True),
    "response": Case(with_own_response, is_planned=False),
    "response instead of a model": Case(with_own_response, is_planned=True, options={"response_model": Tree}),
    "model": Case(with_model, is_planned=True),
    "model that doesn't fit": Case(with_text, is_planned=True, options={"response_model": Tree}),
    "model without what is None": Case(with_model, is_planned=False, options={"response_model_exclude_none": True}),
    "model without what is unset": Case(with_model, is_planned=False, options={"response_model_exclude_unset": True}),
    "model without defaults": Case(with_model, is_planned=False, options={"response_model_exclude_defaults": True}),
    "model without a field": Case(with_model, is_planned=False, options={"response_model_exclude": {"height"}}),
    "model of one field": Case(with_model, is_planned=False, options={"response_model_include": {"height"}}),
    "model by names": Case(with_model, is_planned=False, options={"response_model_by_alias": False}),
    "text": Case(with_text, is_planned=False, options={"response_class": PlainTextResponse}),
    "anything": Case(with_anything, is_planned=False),
    "nothing": Case(with_nothing, is_planned=False, options={"status_code": 204}),
    "background tasks": Case(with_background_tasks, is_planned=False),
    "limited body": Case(
        with_body, is_planned=False, asks=({"json": {"height": 5}},), method="POST", options={"max_body_size": 5}
    ),
    "two calls": Case(with_two_calls, is_planned=False),
    "one call": Case(with_one_call, is_planned=True),
    "calls of two scopes": Case(with_calls_of_two_scopes, is_planned=False),
    "another handler": Case(with_text, is_planned=False, is_wrapped=True),
}


class FakeDatabase:
    @asynccontextmanager
    async def unit_of_work(self, **_: bool) -> AsyncIterator[None]:
        yield


def routes_of(case: Case, route_class: type[APIRoute]) -> list[Any]:
    class Wrapped(route_class):  # type: ignore[misc, valid-type]
        def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:
            handle = super().get_route_handler()

            async def handle_and_say_so(request: Request) -> Response:
                response: Response = await handle(request)
                response.headers["X-Wrapped"] = "yes"
                return response

            return handle_and_say_so

    router = APIRouter(route_class=Wrapped if case.is_wrapped else route_class)
    router.add_api_route(case.path, case.endpoint, methods=[case.method], **case.options)
    return router.routes


async def answers_of(case: Case, route_class: type[APIRoute]) -> list[tuple[Any, ...]]:
    app = FastAPI()
    app.state.hive = SimpleNamespace(database=FakeDatabase())
    app.router.routes.extend(routes_of(case, route_class))
    network = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=network, base_url="http://hive.test") as client:
        answers = [await client.request(case.method, **{"url": case.path} | asked) for asked in case.asks]
    return [(answer.status_code, answer.content, sorted(answer.headers.multi_items())) for answer in answers]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_each_declaration_is_honoured_as_fastapi_does_it(case: Case) -> None:
    assert await answers_of(case, HiveRoute) == await answers_of(case, APIRoute)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_only_what_is_known_has_a_plan(case: Case) -> None:
    [route] = routes_of(case, HiveRoute)

    assert (route.plan is not None) == case.is_planned
