"""Lines about accounts and who gets into them, written once what they tell of is committed. People are ids in them."""

from collections.abc import MutableMapping
from typing import Any

import structlog

LINES = "security_lines"

log = structlog.stdlib.get_logger("hive.security")


def note(info: MutableMapping[Any, Any], line: str, **fields: object) -> None:
    """Log the line after the commit of the transaction whose `info` this is. A rollback logs nothing."""
    info.setdefault(LINES, []).append((line, {name: _shown(value) for name, value in fields.items()}))


def write_noted(info: MutableMapping[Any, Any]) -> None:
    for line, fields in info.pop(LINES, ()):
        log.info(line, **fields)


def _shown(value: object) -> object:
    return value if value is None or isinstance(value, (bool, int)) else str(value)
