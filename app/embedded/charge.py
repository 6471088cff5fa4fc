"""One server in the keeper's care: up on demand, and up again when it dies."""

import time
from collections.abc import Callable

from app.embedded.folder import ServerError
from app.embedded.process import Steps
from app.embedded.server import Server

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0
STEADY = 30.0  # seconds up, after which a death counts as the first one again


class Charge:
    def __init__(self, server: Server, log: Callable[[str], None]) -> None:
        self._server = server
        self._log = log
        self._program: str | None = None
        self._steps: Steps | None = None
        self._try_again_at: float | None = None
        self._up_since = 0.0
        self._pause = 0.0
        self.is_up = False
        self.error: str | None = None

    @property
    def next_step_at(self) -> float | None:
        """When `proceed` has something to do; None as long as nothing happens to the server."""
        return 0.0 if self._steps is not None else self._try_again_at

    def ask_for(self, program: str) -> None:
        """Somebody needs it, and brings the path of its program."""
        self._program = program
        if not self.is_up and self._steps is None:
            self._begin(program)

    def proceed(self) -> None:
        if self._steps is not None:
            self._go_on(self._steps)
        elif self.is_up and not self._server.is_running:
            self.is_up = False
            self._log(f"{self._server.name} has died; it starts again.")
            self._rest()
        elif self._try_again_at is not None and self._program and time.monotonic() >= self._try_again_at:
            self._begin(self._program)

    def stop(self) -> Steps:
        if self._steps is not None:
            self._steps.close()
        if self._server.is_running:
            self._log(f"{self._server.name} stops.")
        return self._server.stop()

    def _begin(self, program: str) -> None:
        self._try_again_at, self.error = None, None
        self._steps = self._server.start(program)

    def _go_on(self, steps: Steps) -> None:
        try:
            next(steps)
        except StopIteration:
            self._steps, self.is_up, self._up_since = None, True, time.monotonic()
            self._log(f"{self._server.name} is up.")
        except ServerError as error:
            self._steps, self.error = None, str(error)
            self._log(self.error)
            self._rest()

    def _rest(self) -> None:
        """The first death is mended at once; a server that keeps dying is given time."""
        now = time.monotonic()
        if self.error is None and now - self._up_since > STEADY:
            self._pause = 0.0
        self._try_again_at = now + self._pause
        self._pause = min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
