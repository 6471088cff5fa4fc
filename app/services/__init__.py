"""The rules of HIVE: classes over a transaction, one for each noun."""

from app.services.assignment_service import AssignmentService
from app.services.batch_service import BatchService
from app.services.blocker_service import BlockerService
from app.services.chat_service import ChatService
from app.services.claim_service import ClaimService
from app.services.lease_service import LeaseService
from app.services.notification_service import NotificationService
from app.services.notifier import Notifier
from app.services.session_service import SessionService
from app.services.task_service import TaskService
from app.services.user_service import UserService

__all__ = [
    "AssignmentService",
    "BatchService",
    "BlockerService",
    "ChatService",
    "ClaimService",
    "LeaseService",
    "NotificationService",
    "Notifier",
    "SessionService",
    "TaskService",
    "UserService",
]
