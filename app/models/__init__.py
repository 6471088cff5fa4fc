"""Every table. Importing this package is enough for Alembic's autogenerate to see them all."""

from app.models.api_token import ApiToken, Scope
from app.models.audit_entry import AuditAction, AuditEntry
from app.models.base import Base
from app.models.earned_points import EarnedPoints
from app.models.event import PERSONAL_TYPES, Event, EventLog, EventType
from app.models.event_ticket import EventTicket
from app.models.idempotent_request import IdempotentRequest
from app.models.job import IS_FREE, IS_UNFINISHED, Job, JobName, JobState, Lane, lane_of
from app.models.notification import Notification, NotificationKind
from app.models.sign_in_change import SignInChange
from app.models.task import HELD_STATUSES, Task, TaskPriority, TaskStatus
from app.models.task_blocker import TaskBlocker, is_blocked, is_ready
from app.models.user import User
from app.models.user_session import UserSession
from app.models.user_task_association import UserTaskAssociation

__all__ = [
    "HELD_STATUSES",
    "IS_FREE",
    "IS_UNFINISHED",
    "PERSONAL_TYPES",
    "ApiToken",
    "AuditAction",
    "AuditEntry",
    "Base",
    "EarnedPoints",
    "Event",
    "EventLog",
    "EventTicket",
    "EventType",
    "IdempotentRequest",
    "Job",
    "JobName",
    "JobState",
    "Lane",
    "Notification",
    "NotificationKind",
    "Scope",
    "SignInChange",
    "Task",
    "TaskBlocker",
    "TaskPriority",
    "TaskStatus",
    "User",
    "UserSession",
    "UserTaskAssociation",
    "is_blocked",
    "is_ready",
    "lane_of",
]
