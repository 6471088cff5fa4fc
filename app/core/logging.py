"""One log for HIVE and its libraries: JSON lines in production, readable text elsewhere, never a secret."""

import logging
import logging.config
import re
from collections.abc import Mapping
from uuid import UUID

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from app.config import Settings

_SECRET_NAME = re.compile("token|password|secret|authorization|ticket", re.IGNORECASE)
# uvicorn logs a socket's whole path, and a browser's socket carries its token there.
_SECRET_IN_TEXT = re.compile(
    r"((?:token|password|secret|authorization|ticket)[\w-]*[\"']?\s*[=:]\s*)"
    r"(?:\"[^\"]*\"|'[^']*'|(?:Bearer\s+)?[^\s&\"',}]+)",
    re.IGNORECASE,
)
# Wherever they stand: as tokens of HIVE begin, and as long as they are.
_API_TOKEN = re.compile(r"hive_[\w-]{43}")
# An access token: two parts of JSON, which begin alike, and a signature.
_ACCESS_TOKEN = re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?")
# No step of a path is longer but by a secret or by mistake: an id has 36 characters.
_LONG_STEP = re.compile(r"[^/]{41,}")
# What HIVE itself has found out, of every request.
_HARMLESS = frozenset({"client", "user_id"})
_PASSWORD_IN_URL = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Blank out tokens, passwords and secrets in every line of the log."""
    return {key: _without_secrets(key, value) for key, value in event.items()}


def _without_secrets(name: object, value: object) -> object:
    if name in _HARMLESS or isinstance(value, (bool, int)):
        return value
    if isinstance(name, str) and _SECRET_NAME.search(name):
        return "…"
    if isinstance(value, str):
        text = _text_without_secrets(value)
        return _LONG_STEP.sub("…", text) if name == "path" else text
    if isinstance(value, Mapping):
        return {key: _without_secrets(key, inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_secrets(None, inner) for inner in value]
    return value


def _text_without_secrets(text: str) -> str:
    # Each is looked for only where it can be: most texts have none, and there are many in each line.
    if "hive_" in text:
        text = _API_TOKEN.sub("hive_…", text)
    if "eyJ" in text:
        text = _ACCESS_TOKEN.sub("…", text)
    if "=" in text or ":" in text:
        text = _PASSWORD_IN_URL.sub(r"\1…", _SECRET_IN_TEXT.sub(r"\1…", text))
    return text


def current_request_id() -> str | None:
    """The id of the request that this work belongs to, also in a job that follows from it; None outside of any."""
    request_id: str | None = structlog.contextvars.get_contextvars().get("request_id")
    return request_id


def bind_request(request_id: str, client: str) -> None:
    """Name the request and where it comes from in each line until the next one.

    What a request that came by the same connection has left is replaced.
    """
    structlog.contextvars.bind_contextvars(request_id=request_id, client=client)
    structlog.contextvars.unbind_contextvars("user_id")


def bind_user(user_id: UUID) -> None:
    """Name in each further line whom the request speaks for."""
    structlog.contextvars.bind_contextvars(user_id=str(user_id))


def configure_logging(settings: Settings, process: str) -> None:
    """Send all logs of this process, its libraries' too, through structlog to stderr.

    `process` is the part that speaks: `api`, `relay`, `worker`, …
    """

    def name_process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {"process": process, **event}

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_process,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        # First whether it's logged at all: making what nobody reads takes longer than many a request.
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(_standard_library(settings, shared))
    # uvicorn's access log prints the query string; HIVE's own middleware logs each request instead.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = name != "uvicorn.access"


def _standard_library(settings: Settings, shared: list[Processor]) -> dict[str, object]:
    # The prettier way to print a stack shows local variables, and with them secrets.
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    final: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        # A stack is text before it's looked through for secrets.
        structlog.processors.format_exc_info,
        redact,
        structlog.processors.JSONRenderer() if settings.is_production else plain,
    ]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "hive": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": shared,
                "processors": final,
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "hive"}},
        "root": {"handlers": ["stderr"], "level": settings.log_level},
        "loggers": {
            "uvicorn.error": {"level": "WARNING" if settings.log_level == "INFO" else settings.log_level},
            "alembic": {"level": "WARNING" if settings.log_level == "INFO" else settings.log_level},
            # It warns of each form that can't be read, which is the sender's fault and answered by a 422.
            "python_multipart": {"level": "CRITICAL" if settings.log_level == "CRITICAL" else "ERROR"},
        },
    }
