from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from redis.asyncio import Redis

from app.config import Settings
from app.core.auth import SignedIn
from app.database import Database
from app.limits import Limits
from app.metrics import Metrics
from app.websockets.conversation import SocketServer
from app.websockets.presence import Presence


@dataclass(frozen=True, slots=True)
class State:
    """What one API process has for as long as it runs. `sign_in` is for requests; sockets have one of their own."""

    settings: Settings
    database: Database
    redis: Redis
    sign_in: Callable[[str], Awaitable[SignedIn]]
    presence: Presence
    sockets: SocketServer
    metrics: Metrics
    limits: Limits
