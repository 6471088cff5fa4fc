"""The application's routes and its OpenAPI document, made once for all tests of a process: it takes a second."""

from functools import cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from app.config import Settings
from app.main import create_app

ENV_FILE = Path(__file__).resolve().parents[2] / ".env.test"


@cache
def routes() -> FastAPI:
    """The application. It knows no server, unless a test's fixture has attached one."""
    return create_app(Settings(_env_file=ENV_FILE))


def document() -> dict[str, Any]:
    return routes().openapi()
