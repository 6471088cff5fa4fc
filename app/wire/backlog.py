"""What one connection has sent and nobody has parsed yet."""


class Backlog:
    """Bytes in the order in which they came, taken from the front in pieces."""

    __slots__ = ("_bytes", "_position")

    def __init__(self) -> None:
        self._bytes = b""
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._bytes)

    def append(self, data: bytes) -> None:
        self._bytes = self._bytes[self._position :] + data if self else data
        self._position = 0

    def take(self, size: int) -> bytes:
        start, self._position = self._position, self._position + size
        piece = self._bytes[start : self._position]
        if not self:
            self.clear()
        return piece

    def clear(self) -> None:
        self._bytes = b""
        self._position = 0
