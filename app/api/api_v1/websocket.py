from fastapi import APIRouter, WebSocket

from app.dependencies import state_of
from app.websockets.conversation import converse

router = APIRouter(tags=["realtime"])


# Without FastAPI's own wrapping, which has dependencies to close at the end and takes 3.5 KiB of each open socket.
@router.websocket_route("/ws")
async def live_events(websocket: WebSocket) -> None:
    """Every event that one may see, as it happens. See docs/events.md."""
    await converse(websocket, state_of(websocket).sockets)
