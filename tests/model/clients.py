"""The people's clients, which ask, and may die at it."""

import json
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from tests.model.hive import ANSWER_SECONDS, Hive
from tests.model.names import Names
from tests.model.nouns import Answer, Caller, Event, Json, Request
from tests.utils.test_utils import problem, wait_until

# What every problem has, and the rules know nothing of.
OF_EVERY_PROBLEM = frozenset({"type", "title", "status", "detail", "request_id"})
MOST = {"limit": 200}


class Clients:
    def __init__(self, hive: Hive, names: Names, tokens: dict[Caller, str]) -> None:
        self._http = hive.http
        self._names = names
        self._tokens = tokens

    def send(self, caller: Caller, request: Request) -> httpx2.Response:
        """The answer. If the same request is running still, the client that broke it off asks until it's done."""

        def ask() -> httpx2.Response | None:
            given = self._http.send(self._of(caller, request))
            return None if given.status_code == 409 and given.json()["code"] == "request_in_progress" else given

        given = wait_until(ask, what="the end of a request that was broken off")
        assert given is not None
        return given

    def break_off(self, caller: Caller, request: Request) -> None:
        """The client dies while it sends the request, which so never arrives as a whole."""
        whole = self._raw(caller, request)
        with self._connection() as connection:
            connection.sendall(whole[:-2])

    def send_and_leave(self, caller: Caller, request: Request) -> None:
        """The client dies when it has sent the request, which may be done or not."""
        with self._connection() as connection:
            connection.sendall(self._raw(caller, request))

    def send_and_not_read(self, caller: Caller, request: Request) -> None:
        """The client dies when the answer arrives, so that the request was done."""
        with self._connection() as connection:
            connection.sendall(self._raw(caller, request))
            assert select.select([connection], [], [], ANSWER_SECONDS)[0], "no answer has come"

    def _list(self, caller: Caller, *path: str, **query: Any) -> list[Json]:
        """All of a list, which has no second page here."""
        given = self._http.get(self._place(path), params=query | MOST, headers=self._authorization(caller))
        assert given.status_code == 200, given.text
        assert "next" not in given.links
        found: list[Json] = given.json()
        return found

    def tasks(self, caller: Caller, **query: Any) -> list[Json]:
        """The tasks that the caller sees, oldest first."""
        return [self._names.in_words(task) for task in self._list(caller, "tasks", sort="created_at", **query)]

    def history(self, caller: Caller, name: str) -> list[Event]:
        """What the caller sees of the task's history, oldest first."""
        return [self._names.event(envelope) for envelope in reversed(self._list(caller, "tasks", name, "history"))]

    def log(self, caller: Caller, after: int) -> list[Event]:
        """What the caller sees of the log, as far as it's about the tasks of this run, in the order of the log."""
        headers = self._authorization(caller)
        found: list[Event] = []
        while True:
            page = self._http.get("/events", params={"after": after, "limit": 1000}, headers=headers).json()
            ours = [each for each in page["events"] if each["task"] and self._names.has(each["task"]["id"])]
            found += map(self._names.event, ours)
            if page["next"] == page["head"]:
                return found
            after = page["next"]

    def in_words(self, given: httpx2.Response) -> Answer:
        is_replayed = given.headers.get("Idempotency-Replayed") == "true"
        if not given.content:
            return Answer(given.status_code, is_replayed=is_replayed)
        body = given.json()
        if given.status_code >= 400:
            # One that is given again names the request that it was given to first.
            whole = body if is_replayed else problem(given, given.status_code)
            body = {each: value for each, value in whole.items() if each not in OF_EVERY_PROBLEM}
        shown = body.get("current", body) if isinstance(body, dict) else {}
        if isinstance(shown, dict) and "version" in shown:
            assert given.headers["ETag"] == f'"{shown["version"]}"'
        return Answer(given.status_code, self._names.in_words(body), is_replayed)

    def _of(self, caller: Caller, request: Request) -> httpx2.Request:
        content = None
        headers = self._authorization(caller)
        if request.body is not None:
            content = json.dumps({each: self._with_ids(value) for each, value in request.body.items()}).encode()
            headers["Content-Type"] = "application/json"
        if request.seen.version is not None:
            condition = "If-None-Match" if request.method == "GET" else "If-Match"
            headers[condition] = f'"{request.seen.version}"'
        if request.seen.token is not None:
            headers["Hive-Lease-Token"] = str(request.seen.token)
        if request.key is not None:
            headers["Idempotency-Key"] = request.key
        return self._http.build_request(request.method, self._place(request.path), content=content, headers=headers)

    def _raw(self, caller: Caller, request: Request) -> bytes:
        """The request as it goes over the wire."""
        built = self._of(caller, request)
        lines = [f"{built.method} {built.url.raw_path.decode()} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in built.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + built.read()

    @contextmanager
    def _connection(self) -> Iterator[socket.socket]:
        place = self._http.base_url
        with socket.create_connection((place.host, place.port or 80), timeout=ANSWER_SECONDS) as connection:
            yield connection

    def _with_ids(self, value: Any) -> Any:
        return self._names.with_ids(value) if isinstance(value, str) else value

    def _place(self, path: tuple[str, ...]) -> str:
        return "/" + "/".join(map(self._names.with_ids, path))

    def _authorization(self, caller: Caller) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._tokens[caller]}"}
