from datetime import timedelta
from typing import Annotated

from fastapi import Form, Query, Response, status

from app.api.oauth import OAuthRoute, UnsupportedGrantType, parameter
from app.api.problems import responses
from app.api.registering import NewAccountDep, OnceForNobody
from app.api.routing import api_router
from app.config import Settings
from app.core.auth import check_credentials
from app.core.security import issue_token
from app.dependencies import (
    AttemptDep,
    CurrentUserSignIn,
    SessionServiceDep,
    StateDep,
    TransactionDep,
    UserAgent,
    UserServiceDep,
)
from app.schemas.auth import (
    ConfirmationQuery,
    ConfirmedResponse,
    GrantType,
    Login,
    Refresh,
    RegisteredResponse,
    SignedOutResponse,
    TokenForm,
    TokenResponse,
)
from app.schemas.user import UserResponse
from app.services.address_confirmation import confirm_address
from app.services.session_service import HeldSession, refresh_session

router = api_router("/auth", tag="auth")
oauth_router = api_router("/auth", tag="auth", route_class=OAuthRoute)


@router.post(
    "/register", status_code=status.HTTP_201_CREATED, responses=responses(403, 409), dependencies=[OnceForNobody]
)
async def register(new: NewAccountDep, users: UserServiceDep) -> RegisteredResponse:
    """Make an account, where `REGISTRATION` lets strangers do that."""
    user = await users.register(new.body, password_hash=new.password_hash)
    return RegisteredResponse(user=UserResponse.of(user, online=()))


@router.post("/login", responses=responses(401))
async def login(
    body: Login,
    state: StateDep,
    sessions: SessionServiceDep,
    attempt: AttemptDep,
    response: Response,
    user_agent: UserAgent = "",
) -> TokenResponse:
    """Trade an e-mail address and a password for an access token, and a refresh token for the next one."""
    user = await check_credentials(state.database, body.email, body.password, attempt)
    held = await sessions.open(user, user_agent=user_agent, most=state.settings.sessions_per_account)
    return _tokens_of(held, state.settings, response)


@oauth_router.post("/token", responses=responses(400, 401))
async def token(
    form: Annotated[TokenForm, Form()],
    state: StateDep,
    sessions: SessionServiceDep,
    attempt: AttemptDep,
    response: Response,
    user_agent: UserAgent = "",
) -> TokenResponse:
    """OAuth 2's token endpoint (RFC 6749) for the grants `password` and `refresh_token`.

    The e-mail address is called `username` here. An error has `error` and `error_description` as well.
    """
    match form.grant_type:
        case GrantType.PASSWORD:
            username, password = parameter(form, "username"), parameter(form, "password")
            user = await check_credentials(state.database, username, password, attempt)
            held = await sessions.open(user, user_agent=user_agent, most=state.settings.sessions_per_account)
        case GrantType.REFRESH_TOKEN:
            held = await refresh_session(
                state.database, parameter(form, "refresh_token"), key=state.settings.signing_key
            )
        case _:
            raise UnsupportedGrantType
    return _tokens_of(held, state.settings, response)


@router.post("/refresh", responses=responses(401))
async def refresh(body: Refresh, state: StateDep, response: Response) -> TokenResponse:
    """Trade a refresh token for new tokens. Each is good once; a second time ends its session.

    A client that did not get the answer may ask again within ten seconds, and gets the same refresh token.
    """
    held = await refresh_session(state.database, body.refresh_token, key=state.settings.signing_key)
    return _tokens_of(held, state.settings, response)


@router.post("/logout", responses=responses(401, 403))
async def logout(signed_in: CurrentUserSignIn, sessions: SessionServiceDep) -> SignedOutResponse:
    """End the session: its tokens become invalid, and its sockets and streams close."""
    await sessions.end(signed_in.actor, signed_in.id)
    return SignedOutResponse()


@router.get("/confirm", responses=responses(404))
async def confirm(
    query: Annotated[ConfirmationQuery, Query()], transaction: TransactionDep, state: StateDep, response: Response
) -> ConfirmedResponse:
    """Confirm an account's address. The link is mailed to it after a registration, and when it was changed.

    Until then nothing else is mailed to the address.
    """
    response.headers["Cache-Control"] = "no-store"
    transaction.allow_changes()
    await confirm_address(transaction, query.code, key=state.settings.signing_key)
    return ConfirmedResponse()


def _tokens_of(held: HeldSession, settings: Settings, response: Response) -> TokenResponse:
    response.headers["Cache-Control"] = "no-store"
    lifetime = timedelta(minutes=settings.access_token_minutes)
    access_token = issue_token(held.user_id, held.id, key=settings.jwt_key, lifetime=lifetime)
    return TokenResponse(
        access_token=access_token, expires_in=int(lifetime.total_seconds()), refresh_token=held.refresh_token
    )
