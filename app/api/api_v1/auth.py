from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, status
from fastapi.security import OAuth2PasswordRequestForm

from app.api.once import OnceRoute
from app.api.problems import responses
from app.config import Settings
from app.core.auth import check_credentials
from app.core.permissions import Actor
from app.core.security import issue_token
from app.dependencies import AttemptDep, DatabaseDep, OnceForNobody, SettingsDep, UserServiceDep
from app.schemas.auth import Login, RegisteredResponse, TokenResponse, UserRegister
from app.schemas.user import UserResponse

router = APIRouter(prefix="/auth", tags=["auth"], route_class=OnceRoute)


@router.post("/register", status_code=status.HTTP_201_CREATED, responses=responses(409), dependencies=[OnceForNobody])
async def register(body: UserRegister, users: UserServiceDep) -> RegisteredResponse:
    """Make an account."""
    return RegisteredResponse(user=UserResponse.model_validate(await users.register(body)))


@router.post("/login", responses=responses(401))
async def login(body: Login, database: DatabaseDep, settings: SettingsDep, attempt: AttemptDep) -> TokenResponse:
    """Trade an e-mail address and a password for an access token."""
    return _token_for(await check_credentials(database, body.email, body.password, attempt), settings)


@router.post("/token", responses=responses(401))
async def token(
    form: Annotated[OAuth2PasswordRequestForm, Depends()],
    database: DatabaseDep,
    settings: SettingsDep,
    attempt: AttemptDep,
) -> TokenResponse:
    """The same for OAuth2's password form, in which the address is called `username`."""
    return _token_for(await check_credentials(database, form.username, form.password, attempt), settings)


def _token_for(actor: Actor, settings: Settings) -> TokenResponse:
    lifetime = timedelta(minutes=settings.access_token_minutes)
    access_token = issue_token(actor.id, key=settings.jwt_key, lifetime=lifetime)
    return TokenResponse(access_token=access_token, expires_in=int(lifetime.total_seconds()))
