"""What goes wrong on the way to a server, before it says a word."""

import errno
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from app.causes.cause import Cause

_ERRNO = re.compile(r"\[?Errno (-?\d+)\]?|\bError (\d+) connecting")
# OpenSSL's numbers of what is wrong with a certificate.
_EXPIRED = 10
_NOT_YET_VALID = 9
_OTHER_NAME = frozenset({62, 64})


@dataclass(frozen=True, slots=True)
class Server:
    """How sentences name a server, the setting with its address, and what says whose certificates are trusted."""

    name: str
    setting: str
    trust: str

    @property
    def at_start(self) -> str:
        """Its name at the start of a sentence."""
        return self.name[0].upper() + self.name[1:]


def why_unreachable(error: BaseException, server: Server) -> Cause | None:
    """None when the error is none of the network's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _why_distrusted(error, server)
    if isinstance(error, ssl.SSLError):
        return _why_no_tls(error, server)
    if isinstance(error, socket.gaierror):
        return _unknown_name(server)
    if isinstance(error, TimeoutError):
        return _silent(server)
    return _why_by_number(_number_of(error), server) if isinstance(error, OSError) else None


def _why_distrusted(error: ssl.SSLCertVerificationError, server: Server) -> Cause:
    if error.verify_code in _OTHER_NAME:
        what = (
            f"The certificate of {server.name} is for another name than the host in {server.setting}: use the name that"
        )
        return Cause(f"{what} is in the certificate.", may_pass=False)
    if error.verify_code == _EXPIRED:
        return Cause(f"The certificate of {server.name} has expired: renew it.", may_pass=False)
    if error.verify_code == _NOT_YET_VALID:
        return Cause(
            f"The certificate of {server.name} is not valid yet: compare the machines' clocks.", may_pass=False
        )
    what = (
        f"The certificate of {server.name} is signed by nobody whom this machine trusts: name the authority's file in"
    )
    return Cause(f"{what} {server.trust}.", may_pass=False)


def _why_no_tls(error: ssl.SSLError, server: Server) -> Cause:
    reason = (error.reason or "").upper()
    if "CERTIFICATE_REQUIRED" in reason or "BAD_CERTIFICATE" in reason or "HANDSHAKE_FAILURE" in reason:
        return Cause(
            f"{server.at_start} wants a certificate of HIVE's, or another kind of TLS, and got none.", may_pass=False
        )
    if "UNKNOWN_CA" in reason:
        return Cause(f"{server.at_start} does not trust the certificate that HIVE shows.", may_pass=False)
    if "VERSION" in reason and "WRONG" not in reason:
        return Cause(f"{server.at_start} and this machine have no version of TLS in common.", may_pass=False)
    if "KEY_VALUES_MISMATCH" in reason or "PEM" in reason or "NO_START_LINE" in reason:
        return Cause(
            f"A certificate or key that {server.setting} names is damaged, or not of the other.", may_pass=False
        )
    what = f"{server.at_start} does not speak TLS at this port, though {server.setting} wants it: use the port for TLS,"
    return Cause(f"{what} or an address without it.", may_pass=False)


def _unknown_name(server: Server) -> Cause:
    return Cause(f"Nobody knows the host in {server.setting} by this name: correct it, or look at this machine's DNS.")


def _number_of(error: BaseException) -> int | None:
    """The number of the system's error. Several attempts come as one error that has the numbers in its text."""
    number = getattr(error, "errno", None)
    if isinstance(number, int):
        return number
    found = _ERRNO.search(str(error))
    return int(found[1] or found[2]) if found else None


def _why_by_number(number: int | None, server: Server) -> Cause | None:
    for numbers, why in _BY_NUMBER:
        if number in numbers:
            return why(server)
    return _unknown_name(server) if number is not None and number < 0 else None


def _refused(server: Server) -> Cause:
    return Cause(f"Nothing listens at the address in {server.setting}: start {server.name}, or correct host and port.")


def _no_socket(server: Server) -> Cause:
    return Cause(f"The socket in {server.setting} is not there: start {server.name}, or correct the path.")


def _forbidden(server: Server) -> Cause:
    return Cause(f"This account may not use the socket in {server.setting}: give it the right to.", may_pass=False)


def _no_way(server: Server) -> Cause:
    return Cause(f"There is no way through the network to the host in {server.setting}.")


def _no_files(_server: Server) -> Cause:
    return Cause("This process has too many files and connections open: raise the limit (ulimit -n).")


def _silent(server: Server) -> Cause:
    return Cause(
        f"{server.at_start} did not answer in time: it is overloaded or frozen, a firewall drops what is sent to it, "
        f"or what listens at the address in {server.setting} is another server."
    )


def _cut_off(server: Server) -> Cause:
    return Cause(
        f"{server.at_start} closed the connection: it is restarting or full, or what listens at the address in "
        f"{server.setting} is another server, or wants TLS."
    )


_BY_NUMBER: tuple[tuple[frozenset[int], Callable[[Server], Cause]], ...] = (
    (frozenset({errno.ECONNREFUSED}), _refused),
    (frozenset({errno.ENOENT}), _no_socket),
    (frozenset({errno.EACCES, errno.EPERM}), _forbidden),
    (frozenset({errno.ETIMEDOUT}), _silent),
    (frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN}), _no_way),
    (frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED}), _cut_off),
    (frozenset({errno.EMFILE, errno.ENFILE}), _no_files),
)
