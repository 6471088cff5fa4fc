"""Entity tags (RFC 9110): versions in headers, and what their conditions mean."""

import re
from collections.abc import Mapping

from app.core.errors import HiveError, MalformedInput

_TAG = r'(?:W/)?"[\x21\x23-\x7e]*"'
_TAGS = rf"{_TAG}(?:\s*,\s*{_TAG})*"
# What `If-Match` and `If-None-Match` can be, for the OpenAPI document.
CONDITION = rf"^\s*(?:\*|{_TAGS})\s*$"
_EACH = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"')


class PreconditionRequired(HiveError):
    status = 428
    code = "precondition_required"

    def __init__(self) -> None:
        super().__init__(
            "This server wants If-Match with each change, with the ETag of the version that you have seen."
        )


class NotModified(Exception):
    """The caller has this version already."""

    def __init__(self, version: int) -> None:
        super().__init__()
        self.headers: Mapping[str, str] = {"ETag": etag_of(version)}


def etag_of(version: int) -> str:
    """A version as a strong entity tag."""
    return f'"{version}"'


def versions_in_if_match(given: str) -> frozenset[int] | None:
    """The versions that `If-Match` names; None for `*`, which any version is. Weak tags name none.

    Raises:
        MalformedInput: it's no list of entity tags.
    """
    if given.strip() == "*":
        return None
    return frozenset(_version(name) for is_weak, name in _tags(given, "if-match") if not is_weak)


def refuse_known(given: str | None, version: int) -> None:
    """Raises `NotModified` if `If-None-Match` names the version, weakly or strongly, or all of them."""
    if given is None:
        return
    if given.strip() == "*" or version in {_version(name) for _, name in _tags(given, "if-none-match")}:
        raise NotModified(version)


def _tags(given: str, header: str) -> list[tuple[str, str]]:
    if not re.fullmatch(_TAGS, given.strip()):
        raise MalformedInput('Write entity tags as "7" or "7", "8".', field=header, where="header", code="invalid_etag")
    return _EACH.findall(given)


def _version(name: str) -> int:
    # What is no version of ours matches nothing, and isn't wrong.
    return int(name) if name.isascii() and name.isdigit() and len(name) < 19 else -1
