from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import ConfigDict, Field

from app.models import JobName, JobState
from app.schemas.fields import Open, PageQuery, Sent


class JobListQuery(PageQuery):
    state: tuple[JobState, ...] = ()
    name: tuple[JobName, ...] = ()


class JobResponse(Sent):
    """A background job, as an admin sees it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    arguments: dict[str, Any]
    state: Open[JobState]
    sends: int = Field(description="How often it was handed to the broker.")
    attempts: int = Field(description="How often a worker began with it.")
    run_after: datetime = Field(description="When it is sent, or sent again should it not be done by then.")
    last_error: str | None
    request_id: str | None = Field(description="The request that it came from.")
    created_at: datetime
    done_at: datetime | None
