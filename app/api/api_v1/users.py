from typing import Annotated
from uuid import UUID

from fastapi import Query, Request, Response

from app.api.paging import next_page
from app.api.problems import READ_VERSION, WRITE_VERSION, responses
from app.api.routing import api_router
from app.api.task_answers import JSON
from app.core.auth import prove_change
from app.core.etags import etag_of, refuse_known
from app.dependencies import (
    AttemptDep,
    CurrentUser,
    CurrentUserSignIn,
    IfNoneMatch,
    StateDep,
    TransactionDep,
    UserServiceDep,
    UserWriterDep,
)
from app.models import User
from app.schemas.auth import ConfirmationAskedResponse
from app.schemas.fields import PageQuery
from app.schemas.user import DeactivatedResponse, OnlineQuery, UserProfile, UserResponse, UserUpdate
from app.services.address_confirmation import ask_for_confirmation
from app.state import State

router = api_router("/users", tag="users")


@router.get("/me", responses=responses(401, 403) | READ_VERSION)
async def get_me(
    actor: CurrentUser, users: UserServiceDep, state: StateDep, response: Response, if_none_match: IfNoneMatch = None
) -> UserResponse:
    """One's own account."""
    user = await users.get(actor.id)
    refuse_known(if_none_match, user.version)
    return _tagged(user, state, response)


@router.put("/me", name="put_me", responses=responses(401, 403, 409) | WRITE_VERSION)
@router.patch("/me", responses=responses(401, 403, 409) | WRITE_VERSION)
async def update_me(
    body: UserUpdate,
    signed_in: CurrentUserSignIn,
    users: UserWriterDep,
    state: StateDep,
    attempt: AttemptDep,
    response: Response,
) -> UserResponse:
    """Change what is given of one's own account. A new address or password needs the current password too.

    The address that the account has already isn't a new one, in whichever case. A new password ends all other sessions.
    """
    proof = await prove_change(state.database, signed_in.actor, body, attempt=attempt)
    user = await users.update(signed_in.actor, body, proof, session_id=signed_in.id)
    return _tagged(user, state, response)


@router.delete("/me", responses=responses(401, 403, 409) | WRITE_VERSION)
async def deactivate_me(actor: CurrentUser, users: UserWriterDep) -> DeactivatedResponse:
    """Deactivate one's own account, end its sessions and release its tasks."""
    await users.deactivate(actor)
    return DeactivatedResponse()


@router.post("/me/confirmation", status_code=202, responses=responses(401, 403))
async def ask_for_another_confirmation(
    actor: CurrentUser, users: UserServiceDep, transaction: TransactionDep
) -> ConfirmationAskedResponse:
    """Mail the link that confirms one's address again, four times a day at most."""
    await ask_for_confirmation(transaction, await users.get(actor.id))
    return ConfirmationAskedResponse()


@router.get("", responses=responses(401, 403), response_model=list[UserProfile])
async def list_users(
    query: Annotated[PageQuery, Query()], _actor: CurrentUser, state: StateDep, request: Request
) -> Response:
    """The directory, by name. Further pages are in the `Link` header."""
    found = await state.user_reads.page(query, online=state.presence.online())
    headers = {"Link": next_page(request.scope, found.next_cursor)} if found.next_cursor else {}
    return Response(found.json, media_type=JSON, headers=headers)


@router.get("/online", responses=responses(401, 403), response_model=list[UserProfile])
async def list_online_users(query: Annotated[OnlineQuery, Query()], _actor: CurrentUser, state: StateDep) -> Response:
    """List who is online now, by name."""
    found = await state.user_reads.online(state.presence.online(), limit=query.limit)
    return Response(found, media_type=JSON)


@router.get("/{user_id:uuid}", responses=responses(401, 403, 404), response_model=UserProfile)
async def get_user(user_id: UUID, _actor: CurrentUser, state: StateDep) -> Response:
    """One entry of the directory."""
    return Response(await state.user_reads.get(user_id, online=state.presence.online()), media_type=JSON)


def _tagged(user: User, state: State, response: Response) -> UserResponse:
    response.headers["ETag"] = etag_of(user.version)
    return UserResponse.of(user, online=state.presence.online())
