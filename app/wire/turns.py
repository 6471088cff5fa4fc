"""Fair shares of the event loop for connections that send more than is parsed at once."""

import asyncio
import time
from collections import deque
from typing import Protocol

from app.wire.bounds import TURN_SECONDS


class Worker(Protocol):
    def work(self) -> bool:
        """Do a small piece of the work; whether there is another one that can be done now."""


class FairTurns:
    """Has one piece done for each worker in turn, for some milliseconds in each turn of the event loop.

    However many connections have sent however much, others wait no longer than that for theirs.
    """

    def __init__(self) -> None:
        self._waiting: deque[Worker] = deque()
        self._is_planned = False

    def wait(self, worker: Worker) -> None:
        """Add the worker to those whose work is done in turn. It must not be among them yet."""
        self._waiting.append(worker)
        self._plan()

    def _plan(self) -> None:
        if not self._is_planned:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        self._is_planned = False
        # The loop's own clock stands still within a turn.
        end = time.monotonic() + TURN_SECONDS
        while self._waiting and time.monotonic() < end:
            worker = self._waiting.popleft()
            if worker.work():
                self._waiting.append(worker)
        if self._waiting:
            self._plan()
