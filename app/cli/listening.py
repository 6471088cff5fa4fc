"""The ports that an API process listens on."""

import errno
import os
import socket
from dataclasses import dataclass

from app.cli.errors import CommandError
from app.config import Settings, authority

# A client that never reads would keep its connection for ever, for closing waits for it to read. Each connection has
# this, and what follows, from the socket that listens.
UNREAD_MILLISECONDS = 15_000
# Bytes that the kernel keeps for one client (it takes twice this, for its own book-keeping). Left to itself it keeps
# four million for one that reads slowly, of a memory that all connections of the machine share.
SEND_BUFFER = 256 * 1024


# What a machine without the one family of addresses says of an address of that family.
ABSENT_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


@dataclass(frozen=True, slots=True)
class Listeners:
    """The sockets for requests, and those for scrapers if there are to be any."""

    requests: list[socket.socket]
    scrapers: list[socket.socket]

    def close(self) -> None:
        for listener in (*self.requests, *self.scrapers):
            listener.close()

    @property
    def descriptors(self) -> tuple[int, ...]:
        return tuple(listener.fileno() for listener in (*self.requests, *self.scrapers))

    def in_words(self) -> str:
        """How a process that inherits the descriptors is told of them: `3,4:5`."""
        return ":".join(",".join(str(each.fileno()) for each in kind) for kind in (self.requests, self.scrapers))

    @classmethod
    def inherited(cls, words: str) -> "Listeners":
        """Take over the listeners that `in_words` has told of.

        Raises:
            CommandError: these are no descriptors of sockets.
        """
        try:
            requests, scrapers = words.split(":")
            return cls(*([_inherited(each) for each in kind.split(",") if each] for kind in (requests, scrapers)))
        except (OSError, ValueError):
            raise CommandError("--listeners is for hive run, which hands over its sockets.") from None


def listen(settings: Settings) -> Listeners:
    """Take the ports of the settings.

    Raises:
        CommandError: another program has one of them, or the address is none of this machine's.
    """
    requests = _listen(settings.host, settings.port, settable_by="HOST or PORT")
    if settings.metrics_port is None:
        return Listeners(requests, [])
    try:
        scrapers = _listen(settings.metrics_host, settings.metrics_port, settable_by="METRICS_HOST or METRICS_PORT")
    except CommandError:
        Listeners(requests, []).close()
        raise
    return Listeners(requests, scrapers)


def _inherited(descriptor: str) -> socket.socket:
    listener = socket.socket(fileno=int(descriptor))
    # It's for this process and not for what it may start.
    listener.set_inheritable(False)
    return listener


def _listen(host: str, port: int, *, settable_by: str) -> list[socket.socket]:
    """Listen on each address that the host has. Those of a family that this machine lacks are left out."""
    listeners: list[socket.socket] = []
    absent = None
    try:
        for family, address in _addresses(host, port):
            try:
                listeners.append(_listener(family, address))
            except OSError as error:
                if error.errno not in ABSENT_FAMILY:
                    raise
                absent = error
        if not listeners and absent is not None:
            raise absent
    except OSError as error:
        Listeners(listeners, []).close()
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or error
        raise CommandError(f"can't listen on {authority(host, port)}: {reason}. Set {settable_by}.") from error
    return listeners


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    # One socket for both families would show IPv4 clients as IPv6 ones, and they would share the limits of one network.
    hosts = (host, "0.0.0.0") if host == "::" else (host,)  # noqa: S104  # Asked for by name.
    found = [
        (family, (str(address[0]), *address[1:]))
        for name in hosts
        for family, _, _, _, address in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    ]
    return list(dict.fromkeys(found))


def _listener(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    listener = socket.create_server(address, family=family, backlog=2048)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MILLISECONDS)
    return listener
