from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

from pydantic import Field

from app.schemas.fields import Open, Sent


class TokenKind(StrEnum):
    SESSION = "session"  # Somebody who has signed in with a password.
    API_TOKEN = "api_token"  # noqa: S105  # A kind of token, which is no secret.
    AGENT_TOKEN = "agent_token"  # noqa: S105  # The same.


class WhoamiAccount(Sent):
    id: UUID
    display_name: str
    type: Open[Literal["user", "agent"]]
    owner_id: UUID | None = Field(description="Whose agent it is; null for a person.")
    is_admin: bool


class HeldTask(Sent):
    """A task that is in progress with the account."""

    task_id: UUID
    title: str
    lease_token: int = Field(description="For `Hive-Lease-Token`.")
    lease_expires_at: datetime | None = Field(description="Null: held until it's given back.")


class WhoamiResponse(Sent):
    """A token's account, what the token may be used for, and which tasks the account holds."""

    account: WhoamiAccount
    token_kind: Open[TokenKind]
    scopes: list[str] | None = Field(
        description="Of an API token or an agent's; null for a session, which has no limits."
    )
    expires_at: datetime | None = Field(description="When the token runs out; null if it doesn't.")
    holds: list[HeldTask] | None = Field(
        description="The first 200, oldest first. Null for a token without any scope of tasks."
    )
