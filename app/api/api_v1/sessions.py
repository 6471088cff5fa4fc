from typing import Annotated
from uuid import UUID

from fastapi import Query, Request, Response

from app.api.paging import link_next_page
from app.api.problems import responses
from app.api.routing import api_router
from app.dependencies import CurrentUser, CurrentUserSignIn, PagerDep, SessionServiceDep
from app.models import UserSession
from app.schemas.auth import SessionEndedResponse, SessionResponse, SessionsEndedResponse
from app.schemas.fields import PageQuery

router = api_router("/users/me/sessions", tag="sessions")


@router.get("", responses=responses(401, 403))
async def list_sessions(
    query: Annotated[PageQuery, Query()],
    signed_in: CurrentUserSignIn,
    sessions: SessionServiceDep,
    pager: PagerDep,
    request: Request,
    response: Response,
) -> list[SessionResponse]:
    """Where one is signed in, newest first. Further pages are in the `Link` header."""
    page = await sessions.list_own(signed_in.actor, query, pager)
    link_next_page(request, response, page)
    return [_shown(each, current=signed_in.id) for each in page.items]


@router.delete("", responses=responses(401, 403))
async def end_other_sessions(signed_in: CurrentUserSignIn, sessions: SessionServiceDep) -> SessionsEndedResponse:
    """End all sessions but this one."""
    return SessionsEndedResponse(ended=await sessions.end_others(signed_in.actor, than=signed_in.id))


@router.delete("/{session_id:uuid}", responses=responses(401, 403, 404))
async def end_session(session_id: UUID, actor: CurrentUser, sessions: SessionServiceDep) -> SessionEndedResponse:
    """End a session: its tokens become invalid, and its sockets and streams close."""
    await sessions.end(actor, session_id)
    return SessionEndedResponse()


def _shown(session: UserSession, *, current: UUID) -> SessionResponse:
    return SessionResponse(
        id=session.id,
        current=session.id == current,
        user_agent=session.user_agent,
        created_at=session.created_at,
        refreshed_at=session.refreshed_at,
        expires_at=session.expires_at,
    )
