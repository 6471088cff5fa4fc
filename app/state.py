from dataclasses import dataclass

from redis.asyncio import Redis

from app.config import Settings
from app.database import Database
from app.limits import Limits
from app.metrics import Metrics
from app.websockets.conversation import SocketServer
from app.websockets.presence import Presence


@dataclass(frozen=True, slots=True)
class State:
    """What one API process has for as long as it runs."""

    settings: Settings
    database: Database
    redis: Redis
    presence: Presence
    sockets: SocketServer
    metrics: Metrics
    limits: Limits
