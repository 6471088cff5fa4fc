from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from app.schemas.api_token import Scopes
from app.schemas.fields import DisplayName, FutureMoment, Optionally, Role, Sent, Skills, Strict


class AgentCreate(Strict):
    """An account for a program, and the scopes of its first token."""

    display_name: DisplayName = Field(examples=["Gardener"])
    role: Optionally[Role] = Field(default="", examples=["Waters what is dry"])
    skills: Optionally[Skills] = Field(default=[], examples=[["watering"]])
    scopes: Scopes = Field(examples=[["tasks:read", "tasks:claim"]])
    expires_at: FutureMoment | None = Field(default=None, description="Of the token. Null: not before it's revoked.")


class AgentResponse(Sent):
    """An agent as its owner sees it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    display_name: str
    role: str
    skills: list[str]
    impact_score: int
    owner_id: UUID
    created_at: datetime


class NewAgentResponse(Sent):
    agent: AgentResponse
    token_id: UUID
    token: str = Field(description="Its first token. Shown this once, and never again.")


class AgentEndedResponse(Sent):
    message: Literal["Agent ended"] = "Agent ended"
