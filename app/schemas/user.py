from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from app.schemas.fields import DisplayName, Email, Password, Role, Skills, Strict


class UserUpdate(Strict):
    """What one may change of oneself. A new address or password needs the current password as well."""

    display_name: DisplayName = Field(default="", examples=["Ada Lovelace"])
    role: Role = Field(default="", examples=["Ecosystem Designer"])
    skills: Skills = Field(default=[], examples=[["analysis"]])
    mail_notifications: bool = Field(default=True, strict=True, description="Whether notifications come as mail too.")
    email: Email = Field(default="", examples=["ada@example.org"])
    password: Password = Field(default="", examples=["correct horse battery"])
    current_password: str = Field(default="", max_length=128)

    @property
    def changes_credentials(self) -> bool:
        return bool({"email", "password"} & self.model_fields_set)

    @property
    def new_password(self) -> str | None:
        return self.password if "password" in self.model_fields_set else None

    @model_validator(mode="after")
    def _current_password_for_credentials(self) -> "UserUpdate":
        if self.changes_credentials and "current_password" not in self.model_fields_set:
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
