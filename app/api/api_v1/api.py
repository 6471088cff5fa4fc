"""All routes of version 1."""

from fastapi import FastAPI

from app.api import health
from app.api.api_v1 import (
    accounts,
    admin,
    agents,
    auth,
    batch,
    blockers,
    dashboard,
    debug,
    events,
    notifications,
    sessions,
    tasks,
    tokens,
    users,
    websocket,
    whoami,
)
from app.api.problems import EVERY_ROUTE
from app.dependencies import StrictParameters


def add_routes(app: FastAPI, *, with_debug: bool) -> None:
    """Add the routes below `/api/v1`. Those for trying things out stay away from production."""
    routers = [
        tasks.router,
        auth.router,
        auth.oauth_router,
        sessions.router,
        tokens.router,
        agents.router,
        users.router,
        blockers.router,
        batch.router,
        events.router,
        notifications.router,
        admin.router,
        accounts.router,
        dashboard.router,
        whoami.router,
    ]
    for each in routers + ([debug.router] if with_debug else []):
        app.router.routes.extend(each.routes)
    # Whether all is well may be asked at any rate.
    app.include_router(health.router, prefix="/api/v1", responses=EVERY_ROUTE, dependencies=[StrictParameters])


socket_router = websocket.router
