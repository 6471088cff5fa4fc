"""Counting a request under the path that its route declares, and never under the one that somebody sent."""

from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Scope

from app.state import State

# Where the scope of a request has the method that the client has sent, if the routes see another one.
METHOD_SENT = "hive_method_sent"


def method_of(scope: Scope) -> str:
    """The method that the client has sent."""
    method: str = scope.get(METHOD_SENT) or scope["method"]
    return method


def count_request(scope: Scope, status: int, *, seconds: float) -> None:
    """To be called when the answer begins, with the scope in which the routes noted which of them was chosen."""
    state: State | None = getattr(scope["app"].state, "hive", None)
    # Before the lifespan has begun there is nobody to tell.
    if state is not None:
        state.metrics.http.answered(
            method=method_of(scope), route=_declared_path(scope), status=status, seconds=seconds
        )


def _declared_path(scope: Scope) -> str | None:
    """The path of the route that the request came to, with the names of its parameters; None without one."""
    # FastAPI keeps the whole path of an included route here; the route itself knows it without the prefix.
    chosen = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route") or _plain_route(scope)
    return getattr(chosen, "path_format", None)


def _plain_route(scope: Scope) -> BaseRoute | None:
    """A route that isn't FastAPI's, such as those of the documentation; such a one leaves only its endpoint."""
    if (endpoint := scope.get("endpoint")) is None:
        return None
    routes: list[BaseRoute] = scope["app"].routes
    return next((route for route in routes if endpoint in (getattr(route, "endpoint", None), _mounted(route))), None)


def _mounted(route: BaseRoute) -> ASGIApp | None:
    return route.app if isinstance(route, Mount) else None
