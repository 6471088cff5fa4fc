from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, Field

from app.models import Scope
from app.schemas.fields import FutureMoment, Sent, Strict, TokenName, tell_nothing_of_repeats

Scopes = Annotated[frozenset[Scope], Field(json_schema_extra=tell_nothing_of_repeats)]


class ApiTokenCreate(Strict):
    name: TokenName = Field(examples=["Nightly report"])
    scopes: Scopes = Field(examples=[["tasks:read"]], description="What it may be used for.")
    expires_at: FutureMoment | None = Field(default=None, description="Null: not before it's revoked.")


class ApiTokenResponse(Sent):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="To some minutes; null if it never was.")


class NewApiTokenResponse(ApiTokenResponse):
    token: str = Field(description="Shown this once, and never again.")


class TokenRevokedResponse(Sent):
    message: str = "Token revoked"
