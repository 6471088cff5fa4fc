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
        self._own_names = {_first_name(path) for path in self._own_paths}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        root = scope.get("root_path", "").rstrip("/")
        prefix = root or self._prefix
        if prefix and scope["type"] in {"http", "websocket"}:
            # Uvicorn puts its root path in front of every path, also where the proxy has left it there.
            path = self._without(root, self._without(root, scope["path"]))
            path = self._without(self._prefix, path)
            scope = {**scope, "path": path, "root_path": "", _PREFIX: prefix}
        await self.app(scope, receive, send)

    def _without(self, prefix: str, path: str) -> str:
        """The path without the prefix in front of it, once or several times; as it is if that leads to nothing."""
        rest = path
        while prefix and (rest + "/").startswith(prefix + "/"):
            before, rest = rest, "/" + rest.removeprefix(prefix).lstrip("/")
            if before not in self._own_paths if rest == "/" else _first_name(rest) in self._own_names:
                return rest
        return path


def _first_name(path: str) -> str:
    return path.split("/", 2)[1] if path.startswith("/") else ""
