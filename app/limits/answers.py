"""How large answers may be, all together: those that clients are yet to take stay in this process's memory."""

from collections.abc import Iterator
from contextlib import contextmanager

MAX_PAGE_BYTES = 2 * 1024 * 1024
MIN_PAGE_BYTES = 64 * 1024
# Of all large answers that are on their way. Pages get shorter when there is little of it left.
MAX_BYTES_IN_FLIGHT = 48 * 1024 * 1024
SHARES = 8


class AnswersInFlight:
    """The large answers of this process that clients haven't taken yet."""

    def __init__(self) -> None:
        self.bytes = 0

    @property
    def page_bytes(self) -> int:
        """How many bytes of rows a page may have now. It's never nothing, so that everybody gets on."""
        share = (MAX_BYTES_IN_FLIGHT - self.bytes) // SHARES
        return max(MIN_PAGE_BYTES, min(share, MAX_PAGE_BYTES))

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        self.bytes += size
        try:
            yield
        finally:
            self.bytes -= size
