"""Accounts as admins see them, what admins may do to them, and the audit log."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from app.models import AuditAction
from app.schemas.fields import Open, Optionally, PageQuery, Password, SearchWords, Sent, Strict

KeepTokens = Optionally[
    Annotated[
        bool, Field(strict=True, description="Whether the API tokens of the account and of its agents go on working.")
    ]
]


class AccountQuery(PageQuery):
    q: SearchWords = Field(default=None, description="What name or address contains, in whichever case.")
    active: bool | None = None
    admin: bool | None = None


class AdminUserResponse(Sent):
    """An account as an admin sees it: never its password, or anything to sign in with."""

    id: UUID
    type: Open[Literal["user", "agent"]] = Field(description="A person, or a program with an account of its own.")
    owner_id: UUID | None = Field(description="Whose agent it is; null for a person.")
    email: str | None = Field(description="Null for agents, and once an account that has ended is emptied.")
    display_name: str
    role: str
    skills: list[str]
    impact_score: int
    active: bool
    admin: bool
    version: int
    created_at: datetime
    updated_at: datetime
    deactivated_at: datetime | None
    emptied_at: datetime | None = Field(description="When name, address and password were taken from an ended account.")
    last_seen_at: datetime | None = Field(
        description="When one of its sessions was last refreshed, or one of its tokens used. Null: none is left."
    )
    sessions: int = Field(description="How many are open.")


class SetPassword(Strict):
    password: Password = Field(examples=["correct horse battery"])
    keep_tokens: KeepTokens = False


class SignOut(Strict):
    keep_tokens: KeepTokens = False


class AuditQuery(PageQuery):
    action: tuple[AuditAction, ...] = ()
    subject: UUID | None = Field(default=None, description="To whom it was done.")
    actor: UUID | None = Field(default=None, description="Who did it.")


class AuditEntryResponse(Sent):
    """One entry of the audit log: what was done to which account, by whom, when and from where."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    action: Open[AuditAction]
    actor_id: UUID | None = Field(description="Null for who has used the command line on HIVE's own machine.")
    subject_id: UUID
    address: str = Field(description="The client's address; empty for the command line.")
    data: dict[str, Any]
    request_id: str | None
    created_at: datetime
