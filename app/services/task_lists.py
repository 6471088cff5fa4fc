"""The list of tasks: its orders, and what a cursor of it is good for."""

from functools import lru_cache

from app.core.permissions import Actor
from app.models import Task
from app.schemas.task import TaskListQuery, TaskSort
from app.services.pages import Order, scope_of

ORDERS = {
    TaskSort.CREATED_AT: Order(key=Task.created_at, id=Task.id),
    TaskSort.CREATED_AT_DESCENDING: Order(key=Task.created_at, id=Task.id, descending=True),
    TaskSort.DUE_AT: Order(key=Task.due_at, id=Task.id, nullable=True),
    TaskSort.DUE_AT_DESCENDING: Order(key=Task.due_at, id=Task.id, nullable=True, descending=True),
    TaskSort.PRIORITY: Order(key=Task.priority_rank, id=Task.id),
    TaskSort.PRIORITY_DESCENDING: Order(key=Task.priority_rank, id=Task.id, descending=True),
    TaskSort.UPDATED_AT: Order(key=Task.updated_at, id=Task.id),
    TaskSort.UPDATED_AT_DESCENDING: Order(key=Task.updated_at, id=Task.id, descending=True),
}


# Both can't change, and the same few lists are asked for again and again.
@lru_cache(maxsize=1024)
def scope_of_tasks(actor: Actor, query: TaskListQuery) -> str:
    """Names the list that the actor asks for."""
    filters = query.model_dump(mode="json", exclude={"limit", "cursor"})
    return scope_of("tasks", actor=actor.id, **filters)
