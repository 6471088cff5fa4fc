"""What the settings say of other sites whose pages may use HIVE."""

import json
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

ANY = "*"
USUAL_PORTS = {"http": 80, "https": 443}
# Pages that a developer's own machine serves, on whichever port.
LOCAL_ORIGINS = r"http://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")


@dataclass(frozen=True, slots=True)
class Origins:
    """The sites that are listed, and those of this machine if they are allowed."""

    listed: frozenset[str]
    with_local: bool = False

    def __contains__(self, origin: object) -> bool:
        is_local = self.with_local and isinstance(origin, str) and re.fullmatch(LOCAL_ORIGINS, origin) is not None
        return origin in self.listed or is_local


def read_origins(text: str) -> tuple[str, ...]:
    """Read a list of origins, separated by commas or as JSON, as browsers name them.

    Raises:
        ValueError: one of them is none.
    """
    return tuple(dict.fromkeys(_read_origin(origin) for origin in _split(text)))


def _split(text: str) -> list[str]:
    if not text.lstrip().startswith("["):
        return [origin.strip() for origin in text.split(",") if origin.strip()]
    try:
        found = json.loads(text)
    except ValueError:
        raise ValueError('it begins like a list in JSON and is none, such as ["https://app.example.org"]') from None
    if not all(isinstance(origin, str) for origin in found):
        raise ValueError("its list in JSON may have nothing but texts")
    return [origin.strip() for origin in found]


def _read_origin(text: str) -> str:
    """Raises ValueError for what no browser would say, so that nobody waits for it to match."""
    if text == ANY:
        return text
    fault = ValueError(
        f"{text} is no origin such as https://app.example.org: a scheme, a host, maybe a port, and no path"
    )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise fault from None
    scheme, host = parts.scheme.lower(), parts.netloc.lower().removesuffix(f":{port}")
    is_bare = parts.path in {"", "/"} and not (parts.query or parts.fragment or "?" in text or "#" in text)
    if not (is_bare and _SCHEME.fullmatch(scheme) and _HOST.fullmatch(host)):
        raise fault
    return f"{scheme}://{host}" + (f":{port}" if port is not None and port != USUAL_PORTS.get(scheme) else "")
