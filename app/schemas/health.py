from typing import Literal

from pydantic import BaseModel


class HealthResponse(BaseModel):
    status: Literal["ok"] = "ok"


class Check(BaseModel):
    """One part of the system: whether it is as it should be, and a sentence about it."""

    ok: bool
    detail: str


class ReadyResponse(BaseModel):
    status: Literal["ok"] = "ok"
    checks: dict[str, Check]
