"""The ports that an API process listens on."""

import os
import socket
from dataclasses import dataclass

from app.cli_errors import CommandError
from app.config import Settings

# A client that never reads would keep its connection for ever, for closing waits for it to read. Each connection has
# this, and what follows, from the socket that listens.
UNREAD_MILLISECONDS = 15_000
# Bytes that the kernel keeps for one client (it takes twice this, for its own book-keeping). Left to itself it keeps
# four million for one that reads slowly, of a memory that all connections of the machine share.
SEND_BUFFER = 256 * 1024


@dataclass(frozen=True, slots=True)
class Listeners:
    """The socket for requests, and the one for scrapers if there is to be one."""

    requests: socket.socket
    scrapers: socket.socket | None

    def close(self) -> None:
        self.requests.close()
        if self.scrapers is not None:
            self.scrapers.close()


def listen(settings: Settings) -> Listeners:
    """Take the ports of the settings.

    Raises:
        CommandError: another program has one of them, or the address is none of this machine's.
    """
    requests = _listen(settings.host, settings.port, settable_by="HOST or PORT")
    if settings.metrics_port is None:
        return Listeners(requests, None)
    try:
        scrapers = _listen(settings.metrics_host, settings.metrics_port, settable_by="METRICS_HOST or METRICS_PORT")
    except CommandError:
        requests.close()
        raise
    return Listeners(requests, scrapers)


def _listen(host: str, port: int, *, settable_by: str) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error
        raise CommandError(f"can't listen on {host}:{port}: {reason}. Set {settable_by}.") from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MILLISECONDS)
    return listener
