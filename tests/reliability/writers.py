"""Writers who do what users do, and a ledger of what they were answered."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from app.models import User
from tests.reliability.parts import Api
from tests.utils.test_utils import PATIENCE

Task = dict[str, Any]
PRIORITIES = ("urgent", "high", "medium", "low")
DUE_TIMES = (None, "2031-05-04T03:02:01.5+02:00", "2032-01-01T00:00:00Z")
# What a user may be told when somebody else was quicker.
REFUSALS = frozenset({403, 404, 409})


@dataclass
class Ledger:
    """What was answered to all writers, and what became known to them."""

    # The task and the version that an answer told of.
    versions: list[tuple[str, int]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    # Texts that are in one event each: titles and messages.
    texts: list[str] = field(default_factory=list)
    unanswered_texts: list[str] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    # Published tasks, for others to claim.
    published: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def writes(self) -> int:
        """Answered or not: those that may have happened."""
        return self.answered.total() + self.unanswered.total()


class Writer:
    """Works on tasks of their own and on those of others. A request that breaks is left at that."""

    def __init__(self, user: User, token: str, apis: Sequence[Api], ledger: Ledger, colleagues: Sequence[User]) -> None:
        self.user = user
        self._token = token
        self._apis = apis
        self._turn = random.randrange(len(apis))
        self._ledger = ledger
        self._colleagues = colleagues
        self._tasks: dict[str, Task] = {}
        self._texts = 0
        # Each is as frequent as it stands here.
        self._habits: tuple[Callable[[], Awaitable[None]], ...] = (
            *(self.create,) * 4,
            *(self.edit,) * 4,
            *(self.step,) * 5,
            *(self.claim,) * 3,
            *(self.assign,) * 2,
            self.unassign,
            self.delete,
            self.chat,
        )

    async def run(self, until: int) -> None:
        """Do things until that many may have happened, by all writers together."""
        limits = httpx2.Limits(max_keepalive_connections=2)
        headers = {"Authorization": f"Bearer {self._token}"}
        async with httpx2.AsyncClient(timeout=PATIENCE, limits=limits, headers=headers) as self._client:
            while self._ledger.writes < until:
                await random.choice(self._habits)()

    async def create(self) -> None:
        body = {**self._fields(), "status": random.choice(("draft", "available"))}
        task = await self._write("create", "POST", "/tasks", body, text=body["title"])
        if task and task["status"] == "available":
            self._ledger.published.append(task["id"])

    async def edit(self) -> None:
        if task := self._own("draft", "available", "in_progress", "completed"):
            body = self._fields()
            await self._write("edit", "PATCH", f"/tasks/{task['id']}", body, text=body["title"])

    async def step(self) -> None:
        """One step of the workflow, with a task of one's own or one that one holds."""
        if task := self._any():
            steps = {
                "draft": ("available",),
                "available": ("in_progress", "draft"),
                "in_progress": ("completed", "completed", "available"),
                "completed": ("in_progress",),
            }
            wanted = random.choice(steps[task["status"]])
            if await self._write("step", "PUT", f"/tasks/{task['id']}/status", {"status": wanted}):
                self._ledger.published += [task["id"]] if wanted == "available" else []

    async def claim(self) -> None:
        if self._ledger.published:
            place = self._ledger.published.pop(random.randrange(len(self._ledger.published)))
            await self._write("claim", "POST", f"/tasks/{place}/claim")

    async def assign(self) -> None:
        if task := self._own("draft", "available", "in_progress"):
            body = {"user_id": str(random.choice(self._colleagues).id)}
            await self._write("assign", "POST", f"/tasks/{task['id']}/assign", body)

    async def unassign(self) -> None:
        if task := self._own("in_progress"):
            await self._write("unassign", "DELETE", f"/tasks/{task['id']}/assign")

    async def delete(self) -> None:
        if task := self._own("draft", "available", "in_progress", "completed"):
            del self._tasks[task["id"]]
            await self._write("delete", "DELETE", f"/tasks/{task['id']}", deletes=task["id"])

    async def chat(self) -> None:
        """Answered by the `pong` to a `ping` after it, for a socket is served in order."""
        text = self._new_text("says")
        try:
            async with connect(f"{self._api.socket_address}?token={self._token}", proxy=None) as socket:
                await socket.send(json.dumps({"type": "chat.message", "data": {"message": text}}))
                await socket.send(json.dumps({"type": "ping"}))
                async with asyncio.timeout(PATIENCE):
                    while (message := json.loads(await socket.recv()))["type"] not in {"error", "pong"}:
                        pass
        except (OSError, ConnectionClosed, InvalidHandshake, EOFError):
            message = {"type": "error"}
            self._turn += 1
        if message["type"] == "pong":
            self._note_answer("chat", text)
        else:
            self._note_silence("chat", text)

    @property
    def _api(self) -> Api:
        return self._apis[self._turn % len(self._apis)]

    async def _write(
        self, what: str, method: str, path: str, body: object = None, *, text: str = "", deletes: str = ""
    ) -> Task | None:
        """The task as it was answered; None when the answer was no, or none came."""
        try:
            answer = await self._client.request(method, f"{self._api.address}{path}", json=body)
        except httpx2.TransportError:
            self._turn += 1
            self._note_silence(what, text)
            return None
        if answer.is_success:
            self._note_answer(what, text)
            return self._note_task(answer.json(), deletes)
        if answer.status_code == 503:
            self._note_silence(what, text)
        elif answer.status_code in REFUSALS:
            self._ledger.refused[answer.status_code] += 1
            self._tasks.pop(path.split("/")[2], None)
        else:
            self._ledger.faults.append(f"{what} was answered with {answer.status_code}: {answer.text}")
        return None

    def _note_task(self, task: Task, deletes: str) -> Task:
        if deletes:
            self._ledger.deleted.append(deletes)
        else:
            self._ledger.versions.append((task["id"], task["version"]))
            self._tasks[task["id"]] = task
        return task

    def _note_answer(self, what: str, text: str) -> None:
        self._ledger.answered[what] += 1
        self._ledger.texts += [text] if text else []

    def _note_silence(self, what: str, text: str) -> None:
        self._ledger.unanswered[what] += 1
        self._ledger.unanswered_texts += [text] if text else []

    def _any(self) -> Task | None:
        return random.choice(list(self._tasks.values())) if self._tasks else None

    def _own(self, *statuses: str) -> Task | None:
        own = [
            task
            for task in self._tasks.values()
            if task["owner_id"] == str(self.user.id) and task["status"] in statuses
        ]
        return random.choice(own) if own else None

    def _fields(self) -> dict[str, Any]:
        return {
            "title": self._new_text("plants"),
            "description": "Waters the orchids – täglich. " * random.randrange(5),
            "category": random.choice(("greenhouse", "office")),
            "priority": random.choice(PRIORITIES),
            "impact_points": random.randrange(10),
            "due_at": random.choice(DUE_TIMES),
        }

    def _new_text(self, verb: str) -> str:
        self._texts += 1
        return f"{self.user.display_name} {verb} {self._texts}"
