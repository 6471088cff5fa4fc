from fastapi import APIRouter, WebSocket

from app.dependencies import StateDep
from app.websockets.conversation import converse

router = APIRouter(tags=["realtime"])


@router.websocket("/ws")
async def live_events(websocket: WebSocket, state: StateDep) -> None:
    """Every event that one may see, as it happens. See docs/events.md."""
    await converse(websocket, state.sockets)
