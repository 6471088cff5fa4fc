"""Which steps a task may take, and who may do what with it. As the contract has it, written down a second time."""

from itertools import product

from app.core.permissions import Permission
from app.models import TaskStatus

DRAFT, AVAILABLE, IN_PROGRESS, COMPLETED = TaskStatus
ALLOWED = {
    (DRAFT, AVAILABLE),
    (AVAILABLE, IN_PROGRESS),
    (IN_PROGRESS, COMPLETED),
    (IN_PROGRESS, AVAILABLE),
    (COMPLETED, IN_PROGRESS),
    (AVAILABLE, DRAFT),
}
REFUSED = [pair for pair in product(TaskStatus, TaskStatus) if pair not in ALLOWED]

VIEW, CLAIM = Permission.TASK_VIEW, Permission.TASK_CLAIM
UNASSIGN, CHANGE_STATUS = Permission.TASK_UNASSIGN, Permission.TASK_CHANGE_STATUS
EVERYTHING = set(Permission)
KINDS = ("owner", "assignee", "admin", "stranger")
MATRIX = {
    ("owner", DRAFT): EVERYTHING,
    ("owner", AVAILABLE): EVERYTHING,
    ("owner", IN_PROGRESS): EVERYTHING,
    ("owner", COMPLETED): EVERYTHING,
    ("admin", DRAFT): EVERYTHING,
    ("admin", AVAILABLE): EVERYTHING,
    ("admin", IN_PROGRESS): EVERYTHING,
    ("admin", COMPLETED): EVERYTHING,
    ("assignee", IN_PROGRESS): {VIEW, CLAIM, UNASSIGN, CHANGE_STATUS},
    ("assignee", COMPLETED): {VIEW, CLAIM, UNASSIGN, CHANGE_STATUS},
    ("stranger", DRAFT): set(),
    ("stranger", AVAILABLE): {VIEW, CLAIM},
    ("stranger", IN_PROGRESS): {VIEW, CLAIM},
    ("stranger", COMPLETED): {VIEW, CLAIM},
}
