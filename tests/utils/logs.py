"""The real log, as a test sets it up and reads it."""

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from app.config import Environment, Settings
from app.core.logging import configure_logging

# As long as the tokens are that HIVE makes.
SECRET = "hunter2-nobody-may-read-this-at-any-time-ok"
Read = Callable[[], str]
Configure = Callable[..., Read]


@contextmanager
def own_log(settings: Settings) -> Iterator[Configure]:
    """Sets up the real log, and gives what reads the lines that went to it."""

    def with_settings(environment: Environment = Environment.DEVELOPMENT, level: str = "DEBUG") -> Read:
        written = io.StringIO()
        configure_logging(settings.model_copy(update={"environment": environment, "log_level": level}), "api")
        [handler] = logging.getLogger().handlers
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(written)
        return written.getvalue

    yield with_settings
    structlog.contextvars.clear_contextvars()
    configure_logging(settings, "test")
