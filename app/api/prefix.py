"""HIVE below a path of its address, such as https://example.org/hive/.

A proxy may take the path off before it hands a request on, or leave it there. Either way the routes see HIVE's own
paths, and what leads a client on (`Link`, `Location`, the documentation) begins with the path.
"""

from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

_PREFIX = "hive_prefix"


def public_path(scope: Scope, path: str) -> str:
    """Where a client finds one of HIVE's own paths."""
    prefix: str = scope.get(_PREFIX, "")
    return prefix + path


class PathPrefix:
    """Takes the prefix off paths: the one of `PUBLIC_URL`, and what a server was told by `--root-path`.

    `own_paths` are those of the routes. By them a path of HIVE's that begins as the prefix does, such as `/api/v1`
    below `/api`, is told from one that has the prefix in front.
    """

    def __init__(self, app: ASGIApp, *, prefix: str, own_paths: Iterable[str]) -> None:
        self.app = app
        self._prefix = prefix
        self._own_paths = frozenset(own_paths)
        self._own_names = {_first_name(path) for path in self._own_paths} - {""}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        root = scope.get("root_path", "").rstrip("/")
        prefix = root or self._prefix
        if prefix and scope["type"] in {"http", "websocket"}:
            # A server puts its root path in front of every path, also where the proxy has left it there.
            path = self._left_by_the_proxy(_without(root, scope["path"]), (root, self._prefix))
            scope = {**scope, "path": path, "root_path": "", _PREFIX: prefix}
        await self.app(scope, receive, send)

    def _left_by_the_proxy(self, path: str, prefixes: Iterable[str]) -> str:
        """The path without one of the prefixes in front of it; as it is if that leads to nothing.

        Never without two: a proxy that closes `/hive/metrics` must not be led to it by `/hive/hive/metrics`.
        """
        for prefix in prefixes:
            rest = _without(prefix, path)
            if rest != path and (path not in self._own_paths if rest == "/" else _first_name(rest) in self._own_names):
                return rest
        return path


def _without(prefix: str, path: str) -> str:
    return (path.removeprefix(prefix) or "/") if (path + "/").startswith(prefix + "/") else path


def _first_name(path: str) -> str:
    return path.split("/", 2)[1] if path.startswith("/") else ""
