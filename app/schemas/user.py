from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import MISSING, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from app.schemas.fields import DisplayName, Email, EmptyAs, Optionally, Password, Role, Skills, Strict, TimeZone


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

    @property
    def changes_credentials(self) -> bool:
        return self.email is not MISSING or self.password is not MISSING

    @property
    def new_password(self) -> str | None:
        return None if self.password is MISSING else self.password

    @model_validator(mode="after")
    def _current_password_for_credentials(self) -> "UserUpdate":
        if self.changes_credentials and not self.current_password:
            raise PydanticCustomError(
                "current_password_required", "A new e-mail address or password needs current_password."
            )
        return self


class UserResponse(BaseModel):
    """An account as its owner sees it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    email: str
    display_name: str
    role: str
    skills: list[str]
    impact_score: int
    mail_notifications: bool
    time_zone: str
    active: bool = Field(validation_alias="is_active")
    admin: bool = Field(validation_alias="is_admin")
    version: int
    created_at: datetime
    updated_at: datetime


class UserProfile(BaseModel):
    """An account as everybody else sees it: never with its e-mail address."""

    id: UUID
    display_name: str
    role: str
    skills: list[str]
    impact_score: int
    online: bool
    type: Literal["user", "agent"] = Field(description="A person, or a program with an account of its own.")
    owner_id: UUID | None = Field(description="Whose agent it is; null for a person.")


class DeactivatedResponse(BaseModel):
    message: Literal["Account deactivated"] = "Account deactivated"
