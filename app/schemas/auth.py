from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from app.schemas.fields import DisplayName, Email, Password, Role, Skills, Strict
from app.schemas.user import UserResponse


class UserRegister(Strict):
    email: Email = Field(examples=["ada@example.org"])
    password: Password = Field(examples=["correct horse battery"])
    display_name: DisplayName = Field(examples=["Ada Lovelace"])
    role: Role = Field(default="", examples=["Ecosystem Designer"])
    skills: Skills = Field(default=[], examples=[["analysis"]])


class RegisteredResponse(BaseModel):
    message: Literal["User created"] = "User created"
    user: UserResponse


# No rules of form here: what is no address and what nobody has get the same answer.
Credential = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]


class Login(Strict):
    email: Credential = Field(examples=["ada@example.org"])
    password: Credential = Field(examples=["correct horse battery"])


class TokenResponse(BaseModel):
    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105  # The kind of token, which is no secret.
    expires_in: int = Field(description="Seconds for which the token holds.")
