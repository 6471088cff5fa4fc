"""A steady load of requests, reads and writes mixed, and a record of each answer."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2

# What the API answers when all is well.
WELL = frozenset({200, 201})


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` is 0 when none came; `fault` is what is wrong with it, if anything."""

    asked_at: float
    answered_at: float
    status: int
    fault: str = ""

    @property
    def seconds(self) -> float:
        return self.answered_at - self.asked_at


@dataclass
class Load:
    """So many requests a second, from so many people.

    Each of them waits for an answer before they ask again, so on a machine that is slow they ask less.
    """

    client: httpx2.AsyncClient
    per_second: float
    people: int
    answers: list[Answer] = field(default_factory=list)
    # The tasks and their versions that an answer told of.
    written: list[tuple[str, int]] = field(default_factory=list)
    _tasks: list[str] = field(default_factory=list)
    _is_over: bool = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask beside the block; when it ends, the last ones are still answered."""
        async with asyncio.TaskGroup() as group:
            for n in range(self.people):
                group.create_task(self._ask_again_and_again(begin_after=n / self.per_second))
            yield
            self._is_over = True

    @property
    def well(self) -> int:
        return sum(answer.status in WELL for answer in self.answers)

    def statuses(self) -> Counter[int]:
        return Counter(answer.status for answer in self.answers)

    async def _ask_again_and_again(self, begin_after: float) -> None:
        next_at = time.monotonic() + begin_after
        while not self._is_over:
            # The rate of a load is a matter of time.
            await asyncio.sleep(next_at - time.monotonic())
            await self._ask()
            next_at = max(next_at + self.people / self.per_second, time.monotonic())

    async def _ask(self) -> None:
        method, path, body = self._some_request()
        asked_at = time.monotonic()
        try:
            answer = await self.client.request(method, path, json=body)
        except httpx2.HTTPError as error:
            self.answers.append(Answer(asked_at, time.monotonic(), 0, repr(error)))
            return
        self.answers.append(Answer(asked_at, time.monotonic(), answer.status_code, _fault_of(answer)))
        if method != "GET" and answer.is_success:
            task = answer.json()
            self.written.append((task["id"], task["version"]))
            if method == "POST":
                self._tasks.append(task["id"])

    def _some_request(self) -> tuple[str, str, object]:
        if not self._tasks:
            return "POST", "/tasks", {"title": "Water the orchids"}
        path = f"/tasks/{random.choice(self._tasks)}"
        return random.choice(
            (
                ("POST", "/tasks", {"title": "Water the orchids"}),
                ("PATCH", path, {"description": f"Once a week, {random.random()} litres"}),
                ("GET", path, None),
                ("GET", f"{path}/history", None),
                ("GET", "/tasks?limit=20", None),
                ("GET", "/users/me", None),
            )
        )


def _fault_of(answer: httpx2.Response) -> str:
    """A 503 has to be a problem document that says when to try again; anything else that isn't well is a fault."""
    if answer.status_code in WELL:
        return ""
    is_problem = answer.headers.get("content-type") == "application/problem+json"
    if answer.status_code == 503 and is_problem and answer.headers.get("retry-after", "").isdecimal():
        return ""
    return f"{answer.status_code}: {answer.text}"
