"""The page at the root of HIVE: what this is, whether it is well, and how much is in it."""

import base64
import hashlib
from html import escape
from importlib.resources import files
from string import Template

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from app import __version__
from app.api.health import readiness
from app.core.browser_headers import POLICY, STRICT_POLICY
from app.core.errors import HiveError
from app.schemas.dashboard import DashboardSummary
from app.state import State

PAGE = Template((files("app.api") / "front_page.html").read_text(encoding="utf-8"))
STYLE = (files("app.api") / "front_page.css").read_text(encoding="utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = {
    POLICY: f"{STRICT_POLICY}; style-src 'sha256-{_STYLE_HASH}'",
    "Cache-Control": "no-store",
    "Vary": "Accept",
}
# Relative, so that they hold below a path too.
DOCS = {"docs": "docs", "openapi": "openapi.json"}
PLACES = {"health": "health/ready", "api": "api/v1"}
DOCS_LINKS = '<a href="docs">API documentation</a> <a href="openapi.json">OpenAPI</a> '


def serve_front_page(app: FastAPI) -> None:
    app.add_route("/", show_front_page, include_in_schema=False)


async def show_front_page(request: Request) -> Response:
    """A page for people. Programs that ask for JSON are told the addresses on it."""
    state: State = request.app.state.hive
    has_docs = state.settings.serves_docs
    if _wants_json(request.headers.get("accept", "")):
        places = (DOCS if has_docs else {}) | PLACES
        return JSONResponse({"name": "HIVE", "version": __version__, **places}, headers=HEADERS)
    is_well, health = await _health_of(state)
    page = PAGE.substitute(
        style=STYLE,
        version=escape(__version__),
        state="well" if is_well else "unwell",
        health=escape(health),
        counts=await _counts_of(state),
        docs=DOCS_LINKS if has_docs else "",
    )
    return HTMLResponse(page, headers=HEADERS)


def _wants_json(accept: str) -> bool:
    return "application/json" in accept and "text/html" not in accept


async def _health_of(state: State) -> tuple[bool, str]:
    try:
        await readiness.check(state)
    except HiveError as error:
        return False, error.detail
    return True, "All parts of the system are there."


async def _counts_of(state: State) -> str:
    """The numbers that anyone may see; nothing while they can't be counted."""
    try:
        summary = await state.dashboard_reads.summarize(online=len(state.presence.online()))
    except HiveError:
        return ""
    return "".join(f"<div><dt>{name}</dt><dd>{number:,}</dd></div>" for name, number in _shown(summary).items())


def _shown(summary: DashboardSummary) -> dict[str, int]:
    return {
        "tasks": summary.total_tasks,
        "completed": summary.completed_tasks,
        "accounts": summary.active_users,
        "online": summary.online_users,
    }
