from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import MISSING, AliasChoices, ConfigDict, Field, StringConstraints

from app.core.addresses import address_key
from app.models import User
from app.schemas.fields import (
    DisplayName,
    Email,
    EmptyAs,
    Open,
    Optionally,
    Password,
    Role,
    Sent,
    Skills,
    Strict,
    TimeZone,
)


class UserUpdate(Strict):
    """What one may change of oneself. Only what is given is changed, and null empties `role` and `skills`.

    A new address or password needs the current password as well.
    """

    display_name: DisplayName | MISSING = Field(default=MISSING, examples=["Ada Lovelace"])
    role: Annotated[Role, EmptyAs("")] | MISSING = Field(default=MISSING, examples=["Ecosystem Designer"])
    skills: Annotated[Skills, EmptyAs([])] | MISSING = Field(default=MISSING, examples=[["analysis"]])
    mail_notifications: Annotated[bool, Field(strict=True)] | MISSING = Field(
        default=MISSING, description="Whether notifications come as mail too."
    )
    time_zone: TimeZone | MISSING = MISSING
    email: Email | MISSING = Field(default=MISSING, examples=["ada@example.org"])
    password: Password | MISSING = Field(default=MISSING, examples=["correct horse battery"])
    current_password: Optionally[Annotated[str, StringConstraints(max_length=128)]] = ""
    keep_sessions: Optionally[Annotated[bool, Field(strict=True)]] = Field(
        default=False, description="Whether other sessions outlive a new address or password."
    )
    keep_tokens: Optionally[Annotated[bool, Field(strict=True)]] = Field(
        default=False, description="Whether API tokens, one's agents' too, outlive a new address or password."
    )

    @property
    def names_credentials(self) -> bool:
        return self.email is not MISSING or self.password is not MISSING

    @property
    def new_password(self) -> str | None:
        return None if self.password is MISSING else self.password

    def own_names_with(self, user: User) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The addresses and names that the account has and is to have."""
        addresses = (user.email,) if self.email is MISSING else (user.email, self.email)
        names = (user.display_name,) if self.display_name is MISSING else (user.display_name, self.display_name)
        return addresses, names

    def changes_credentials_of(self, address: str) -> bool:
        """Whether the account of this address gets another one, or a password. Forms send the same address again."""
        return self.changes_address_of(address) or self.password is not MISSING

    def changes_address_of(self, address: str) -> bool:
        return self.email is not MISSING and address_key(self.email) != address_key(address)


class AccountState(Sent):
    """An account as it is stored, for its owner."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    email: str
    display_name: str
    role: str
    skills: list[str]
    impact_score: int
    mail_notifications: bool
    time_zone: str
    active: bool = Field(validation_alias=AliasChoices("is_active", "active"))
    is_active: bool = Field(description="The same as `active`.")
    admin: bool = Field(validation_alias=AliasChoices("is_admin", "admin"))
    version: int
    created_at: datetime
    updated_at: datetime


class UserResponse(AccountState):
    """An account as its owner sees it."""

    is_online: bool = Field(description="Whether one of its sockets lives. No part of what `version` counts.")

    @classmethod
    def of(cls, user: User, *, online: Collection[UUID]) -> "UserResponse":
        stored = AccountState.model_validate(user).model_dump()
        return cls.model_validate({**stored, "is_online": user.id in online})


class UserProfile(Sent):
    """An account as everybody else sees it: never with its e-mail address."""

    id: UUID
    display_name: str
    role: str
    skills: list[str]
    impact_score: int
    online: bool
    type: Open[Literal["user", "agent"]] = Field(description="A person, or a program with an account of its own.")
    owner_id: UUID | None = Field(description="Whose agent it is; null for a person.")


class OnlineQuery(Strict):
    limit: int | None = Field(default=None, ge=1, le=200, description="How many at most; all without it.")


class DeactivatedResponse(Sent):
    message: Literal["Account deactivated"] = "Account deactivated"
