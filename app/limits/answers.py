"""How large answers may be, all together: those that clients are yet to take stay in this process's memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.core.errors import ServiceUnavailable

MAX_PAGE_BYTES = 2 * 1024 * 1024
MIN_PAGE_BYTES = 64 * 1024
# Of all large answers that are on their way. Pages get shorter when there is little of it left.
MAX_BYTES_IN_FLIGHT = 48 * 1024 * 1024
SHARES = 8


class TooManyLargeAnswers(ServiceUnavailable):
    def __init__(self) -> None:
        super().__init__("Too many large answers are on their way at the moment; try again shortly.", code="too_busy")


class AnswersInFlight:
    """The large answers of this process that clients haven't taken yet."""

    def __init__(self) -> None:
        self.bytes = 0

    @property
    def page_bytes(self) -> int:
        """How many bytes of rows a page may have now. It's never nothing, so that everybody gets on."""
        share = (MAX_BYTES_IN_FLIGHT - self.bytes) // SHARES
        return max(MIN_PAGE_BYTES, min(share, MAX_PAGE_BYTES))

    def require_room(self) -> None:
        """For an answer that can't be shorter than it is.

        Raises:
            TooManyLargeAnswers: clients have yet to take as many as there may be.
        """
        if self.bytes >= MAX_BYTES_IN_FLIGHT:
            raise TooManyLargeAnswers

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        self.bytes += size
        try:
            yield
        finally:
            self.bytes -= size
