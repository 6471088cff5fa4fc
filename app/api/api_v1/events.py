from typing import Any

from fastapi import APIRouter

from app.api.problems import responses
from app.dependencies import CurrentUser
from app.events.types import EVENT_TYPES

router = APIRouter(prefix="/events", tags=["events"])


@router.get("/types", responses=responses(401))
async def list_event_types(_actor: CurrentUser) -> dict[str, dict[str, Any]]:
    """Every type of event with the JSON schema of its `data`."""
    return {event.type: event.model_json_schema() for event in EVENT_TYPES}
