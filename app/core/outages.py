"""Saying in the log that something is away, and that it's back: once each, however often it's tried in between."""

from structlog.stdlib import BoundLogger


class Outage:
    def __init__(self, log: BoundLogger, what: str) -> None:
        self._log = log
        self._what = what
        self._lasts = False

    def goes_on(self, reason: str) -> None:
        """It was tried, and failed."""
        if not self._lasts:
            self._log.warning(f"{self._what} fails, and is tried again and again", reason=reason)
        self._lasts = True

    def is_over(self) -> None:
        """It was tried, and worked; harmless when it did before."""
        if self._lasts:
            self._log.info(f"{self._what} works again")
        self._lasts = False
