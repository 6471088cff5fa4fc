"""What the keeper knows of a server that it keeps."""

from typing import Protocol

from app.embedded.process import Steps


class Server(Protocol):
    name: str

    def start(self, program: str) -> Steps:
        """Bring it up from `program`, a path that a client found, until it answers. Raises ServerError."""

    def stop(self) -> Steps:
        """Bring it down, by force if it must be; also one that is only half up."""

    @property
    def is_running(self) -> bool: ...
