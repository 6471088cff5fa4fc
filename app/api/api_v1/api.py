"""All routes of version 1."""

from fastapi import APIRouter

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
from app.api.problems import EVERY_ROUTE, responses
from app.dependencies import StrictParameters


def build_router(*, with_debug: bool) -> APIRouter:
    """The routes below `/api/v1`. Those for trying things out stay away from production."""
    router = APIRouter(responses=EVERY_ROUTE, dependencies=[StrictParameters])
    routers = [
        auth.router,
        auth.oauth_router,
        sessions.router,
        tokens.router,
        agents.router,
        users.router,
        tasks.router,
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
        router.include_router(each, responses=responses(429))
    # Whether all is well may be asked at any rate.
    router.include_router(health.router)
    return router


socket_router = websocket.router
