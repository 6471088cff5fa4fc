"""What `SMTP_URL`, `MAIL_FROM` and `PUBLIC_URL` say.

What is refused is not echoed, for it may have a password in it.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from email.headerregistry import Address
from typing import Literal, cast
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

DEFAULT_PORTS = {"smtp": 587, "smtps": 465}
Starttls = Literal["required", "offered", "never"]
STARTTLS = frozenset({"required", "offered", "never"})

# Printable ASCII without what would end an address where it stands: in a header, or in a command to the server.
_LOCAL_OR_DOMAIN = r"[^\x00-\x20\x7f-\U0010ffff()<>\[\]\\,;:\"@]+"
_ADDRESS = re.compile(f"{_LOCAL_OR_DOMAIN}@{_LOCAL_OR_DOMAIN}")
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_USUAL_PORTS = {"http": ":80", "https": ":443"}
_SENDER = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]*)>|(?P<alone>[^<>]*)")


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mail is handed over, and how the way there is protected.

    `is_tls` means TLS from the first byte. Otherwise `starttls` says whether the connection has to become encrypted,
    does when the server offers it, or never does.
    """

    host: str
    port: int
    is_tls: bool
    starttls: Starttls
    user: str | None = None
    password: str | None = field(default=None, repr=False)


def read_smtp_url(url: str) -> SmtpServer:
    """
    Raises:
        ValueError: a sentence about what is wrong, without any of the address.
    """
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or parts.path.strip("/") or parts.fragment:
        raise ValueError("write it as smtp://user:password@host:587 or smtps://…, and % # / ? @ in a password as %25 …")
    host, port = _host_and_port(parts)
    user, password = _credentials(parts)
    is_tls = parts.scheme == "smtps"
    # A password that goes through a network in the clear has to be somebody's decision.
    default: Starttls = "required" if password and not _is_this_machine(host) else "offered"
    return SmtpServer(host, port, is_tls, _starttls(parts, default, is_tls=is_tls), user, password)


def _host_and_port(parts: SplitResult) -> tuple[str, int]:
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        # What Python says about a bad port has a piece of the address in it.
        raise ValueError("its port is no number, or its password has characters to be written with %") from None
    if not host:
        raise ValueError("it names no host")
    return host, port or DEFAULT_PORTS[parts.scheme]


def _credentials(parts: SplitResult) -> tuple[str | None, str | None]:
    if not parts.username and not parts.password:
        return None, None
    if not parts.username or not parts.password:
        raise ValueError("it has a user without a password, or a password without a user")
    return unquote(parts.username), unquote(parts.password)


def _starttls(parts: SplitResult, default: Starttls, *, is_tls: bool) -> Starttls:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    chosen = options.pop("starttls", None)
    if options or (chosen is not None and (chosen not in STARTTLS or is_tls)):
        raise ValueError("the one option is starttls=required, starttls=offered or starttls=never, for smtp:// alone")
    return cast("Starttls", chosen or default)


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_mail_address(text: str) -> bool:
    """Whether it can stand in a header and in a command as it is. Accounts have such addresses only."""
    return _ADDRESS.fullmatch(text) is not None


def read_sender(text: str) -> Address:
    """`HIVE <hive@example.org>`, or the address alone.

    Raises:
        ValueError: a sentence about what is wrong.
    """
    found = _SENDER.fullmatch(text.strip())
    name = (found["name"] or "").strip().removeprefix('"').removesuffix('"') if found else ""
    address = (found["address"] or found["alone"] or "").strip() if found else ""
    if not name.isprintable() or not is_mail_address(address):
        raise ValueError("write it as HIVE <hive@example.org>, the address in ASCII")
    return Address(name, addr_spec=address)


def read_public_url(text: str) -> str:
    """The address without a slash at its end, so that a path can follow it.

    Raises:
        ValueError: a sentence about what is wrong.
    """
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.netloc or not text.isprintable() or " " in text:
        raise ValueError("write it as https://hive.example.org")
    read_path(parts.path)
    return text.rstrip("/")


def read_path(text: str) -> str:
    """A path that HIVE is to be below, without a slash at its end.

    Raises:
        ValueError: a sentence about what is wrong.
    """
    path = text.rstrip("/")
    if not _PATH.fullmatch(path) or {".", ".."} & {*path.split("/")}:
        raise ValueError("write its path as in https://hive.example.org/hive, of letters, digits and . _ ~ -")
    return path


def origin_of(public_url: str) -> str:
    """How a browser names the site of this address: in lower case, and without the usual port."""
    parts = urlsplit(public_url)
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(_USUAL_PORTS[parts.scheme])}"
