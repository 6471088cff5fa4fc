"""Leaving a mail server alone for a while that was slow or away several times in a row."""

import asyncio
import time
from collections.abc import Callable

from app.mail.mailer import MailDelayed, Mailer, RecipientDelayed
from app.mail.message import Mail

# After so many in a row that were delayed, the others wait.
MOST_DELAYED = 3
# Longer than any server needs that is well.
SLOW_SECONDS = 5.0
FIRST_PAUSE_SECONDS = 15.0
LONGEST_PAUSE_SECONDS = 600.0


class MailPaused(Exception):
    """Nothing was tried; it's time again in so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The mail server is left alone for {seconds:.0f} s.")
        self.seconds = seconds


class CircuitBreaker:
    """A mailer that refuses mails at once, instead of waiting for a server that has let it wait before.

    After each pause one mail tries the server, and the next pause is twice as long if it's delayed as well. A server
    that answers in good time is well, even if it takes this mail later or never.
    """

    def __init__(self, mailer: Mailer, clock: Callable[[], float] = time.monotonic) -> None:
        self._mailer = mailer
        self._clock = clock
        self._delayed = 0
        self._pause = FIRST_PAUSE_SECONDS
        self._open_until = 0.0

    async def send(self, mail: Mail) -> None:
        """Send it, as `Mailer.send` does.

        Raises:
            MailPaused: the server is left alone.
        """
        began = self._clock()
        if began < self._open_until:
            raise MailPaused(self._open_until - began)
        has_answered = True
        try:
            await self._mailer.send(mail)
        except MailDelayed as error:
            # An answer about one recipient says nothing against the server.
            has_answered = isinstance(error, RecipientDelayed)
            raise
        except asyncio.CancelledError:
            # By the time limit of the job.
            has_answered = False
            raise
        finally:
            self._note(is_well=has_answered and self._clock() - began <= SLOW_SECONDS)

    def _note(self, *, is_well: bool) -> None:
        if is_well:
            self._delayed, self._pause = 0, FIRST_PAUSE_SECONDS
            return
        self._delayed += 1
        if self._delayed >= MOST_DELAYED:
            self._open_until = self._clock() + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
