import json
from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import Field, StringConstraints, WithJsonSchema

from app.core.addresses import address_key
from app.schemas.fields import (
    DisplayName,
    Email,
    Optionally,
    Password,
    Role,
    Sent,
    Skills,
    Strict,
    TimeZone,
    name_in,
    normalize_email,
)
from app.schemas.user import UserResponse


class UserRegister(Strict):
    email: Email = Field(examples=["ada@example.org"])
    password: Password = Field(examples=["correct horse battery"])
    display_name: DisplayName | None = Field(
        default=None, examples=["Ada Lovelace"], description="The part of the address before the @ unless given."
    )
    role: Optionally[Role] = Field(default="", examples=["Ecosystem Designer"])
    skills: Optionally[Skills] = Field(default=[], examples=[["analysis"]])
    time_zone: Optionally[TimeZone] = Field(default="UTC", examples=["Europe/Berlin"])

    @property
    def shown_name(self) -> str:
        """The given name, or one that is made from the address."""
        return self.display_name or name_in(self.email)


def address_named_in(body: bytes) -> str:
    """The key of the address in the body of a registration; empty if there is none, which is refused later."""
    try:
        content = json.loads(body)
        return address_key(normalize_email(content["email"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""


class RegisteredResponse(Sent):
    message: Literal["User created"] = "User created"
    user: UserResponse


# No rules of form here: what is no address and what nobody has get the same answer.
Credential = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]


class Login(Strict):
    email: Credential = Field(examples=["ada@example.org"])
    password: Credential = Field(examples=["correct horse battery"])


class GrantType(StrEnum):
    PASSWORD = "password"  # noqa: S105  # OAuth's name of the grant, which is no secret.
    REFRESH_TOKEN = "refresh_token"  # noqa: S105  # As above.


class TokenForm(Sent):
    """What OAuth 2 asks the token endpoint for (RFC 6749, sections 4.3.2 and 6). It ignores further parameters."""

    # A text, since an unknown one is an error of its own there.
    grant_type: Annotated[str, WithJsonSchema({"type": "string", "enum": list(GrantType)})] = GrantType.PASSWORD
    username: str | None = Field(default=None, description="The e-mail address, for the grant `password`.")
    password: str | None = Field(default=None, json_schema_extra={"format": "password"})
    refresh_token: str | None = Field(default=None, description="The last one, for the grant `refresh_token`.")


class TokenResponse(Sent):
    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105  # The kind of token, which is no secret.
    expires_in: int = Field(description="Seconds for which the access token holds.")
    refresh_token: str = Field(description="Good for the next access token, once and for 30 days.")


class Refresh(Strict):
    refresh_token: Credential = Field(description="The last one that was given.")


class ConfirmedResponse(Sent):
    message: Literal["Address confirmed"] = "Address confirmed"


class ConfirmationAskedResponse(Sent):
    message: Literal["A link is mailed to the account's address unless it is confirmed"] = (
        "A link is mailed to the account's address unless it is confirmed"
    )


class ConfirmationQuery(Strict):
    # Queries of this model are not cached.
    HAS_SECRET: ClassVar = True

    code: str = Field(min_length=1, max_length=200, description="From the link in the mail.")


class SignedOutResponse(Sent):
    message: Literal["Signed out"] = "Signed out"


class SessionResponse(Sent):
    """A sign-in with a password that is kept up by refresh tokens."""

    id: UUID
    current: bool = Field(description="Whether it's the one that asks.")
    user_agent: str = Field(description="How the program that signed in named itself.")
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime


class SessionEndedResponse(Sent):
    message: Literal["Session ended"] = "Session ended"


class SessionsEndedResponse(Sent):
    message: Literal["Other sessions ended"] = "Other sessions ended"
    ended: int
