from dataclasses import dataclass

from app.config import Settings
from app.core.redis import PrefixedRedis
from app.core.sign_ins import SignIns
from app.database import Database
from app.limits import Limits
from app.limits.answers import AnswersInFlight
from app.metrics import Metrics
from app.reads.dashboard_reads import DashboardReads
from app.reads.task_reads import TaskReads
from app.reads.user_reads import UserReads
from app.services.open_tasks import OpenTasks
from app.websockets.conversation import SocketServer
from app.websockets.presence import Presence


@dataclass(frozen=True, slots=True)
class State:
    """What one API process has for as long as it runs. `sign_ins` is for requests; sockets have a way of their own."""

    settings: Settings
    database: Database
    redis: PrefixedRedis
    sign_ins: SignIns
    presence: Presence
    sockets: SocketServer
    metrics: Metrics
    limits: Limits
    answers: AnswersInFlight
    open_tasks: OpenTasks
    task_reads: TaskReads
    user_reads: UserReads
    dashboard_reads: DashboardReads
