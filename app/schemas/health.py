from typing import Literal

from pydantic import Field

from app.schemas.fields import Sent


class HealthResponse(Sent):
    status: Literal["ok"] = "ok"


class Check(Sent):
    """One part of the system: whether it is as it should be, and a sentence about it."""

    ok: bool
    detail: str


class ReadyResponse(Sent):
    status: Literal["ok"] = "ok"
    checks: dict[str, Check]
    warnings: list[str] = Field(
        default=[], description="What needs the operator's attention, though requests are answered; a sentence each."
    )
