"""A task and pages of tasks as statements, from what the services say of them."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, and_, bindparam, case, func, literal_column, select, true
from sqlalchemy.orm import aliased

from app.core.permissions import Visibility, select_visible_tasks
from app.db.statements import Statement
from app.models import EventLog, Task, TaskStatus
from app.reads.json_columns import as_json, columns_of, moment
from app.reads.page_parts import page_parts
from app.schemas.task import TaskFilter, TaskListQuery, TaskResponse
from app.services.pages import Position
from app.services.task_filter import filter_tasks, has_words, is_one_of
from app.services.task_lists import ORDERS

# What a task can be large by. PostgreSQL knows it without reading the text.
_SIZE = func.octet_length(Task.description)
USUAL_LIMITS = frozenset({20, 50, 100, 200})


@cache
def one_task(visibility: Visibility) -> Statement:
    visible = select_visible_tasks(visibility).where(Task.id == bindparam("task_id"))
    task = visible.with_only_columns(*columns_of(TaskResponse, Task, _computed(visibility))).subquery("task")
    return Statement.of(select(task.c.version, as_json(task)))


def page_of_tasks(
    visibility: Visibility, query: TaskListQuery, position: Position | None, *, rare: ColumnElement[bool] | None = None
) -> Statement:
    """One statement, and so one state of the database: the page, the log's end, and the place after which to go on."""
    listed = filter_tasks(select_visible_tasks(visibility), query, visibility, rare=rare)
    return Statement.of(_page(listed, visibility, query, position))


def page_of_first_tasks(
    visibility: Visibility, query: TaskListQuery, position: Position | None, *, first: int
) -> Statement:
    """The page, if the `first` tasks after the position have all of it, as they do if the words are frequent.

    The last column says whether it has.
    """
    order = ORDERS[query.sort]
    unsearched = query.model_copy(update={"q": None})
    tasks = filter_tasks(select_visible_tasks(visibility), unsearched, visibility).order_by(*order.columns())
    if position:
        tasks = tasks.where(order.after(position))
    tasks = tasks.with_only_columns(Task.id, order.key, Task.words).limit(literal_column(str(first)))
    looked_at = aliased(Task, tasks.subquery("first"), adapt_on_names=True)
    its_order = replace(order, key=getattr(looked_at, order.key.key), id=looked_at.id)
    found = select(looked_at.id).where(has_words(looked_at.words)).order_by(*its_order.columns())
    listed = select(Task).where(is_one_of(found.limit(_limit_of(query) + literal_column("1"))))
    page = _page(listed, visibility, query, position)
    # Where another page follows there is nothing to count, and nothing is counted.
    are_all = select(func.count() < literal_column(str(first))).select_from(tasks.order_by(None).subquery("all"))
    is_whole = case((page.selected_columns.id.is_not(None), true()), else_=are_all.scalar_subquery())
    return Statement.of(page.add_columns(is_whole))


def _page(listed: Select[Task], visibility: Visibility, query: TaskListQuery, position: Position | None) -> Select[Any]:
    limit = _limit_of(query)
    columns = columns_of(TaskResponse, Task, _computed(visibility))
    page = page_parts(listed, ORDERS[query.sort], position, columns, limit=limit, size=_SIZE)
    statement = select(page.items, EventLog.last_seq, EventLog.epoch, *page.last.c)
    return statement.select_from(EventLog).outerjoin(page.last, true())


def _limit_of(query: TaskListQuery) -> ColumnElement[int]:
    fixed = fixed_limit(query)
    return literal_column(str(fixed), Integer()) if fixed else bindparam("limit", type_=Integer())


@lru_cache(maxsize=1024)
def fixed_limit(query: TaskListQuery) -> int | None:
    """The limit that stands in the statement itself: that of a list without filters.

    PostgreSQL keeps a plan only if it sees that few rows are wanted, and to plan such a list takes a third of its time.
    With filters one plan isn't as good for all values, so those are planned each time. So are other limits than those
    that are asked for all the time, for each would be a statement of its own.
    """
    is_filtered = any(getattr(query, name) not in {(), None} for name in TaskFilter.model_fields)
    return query.limit if query.limit in USUAL_LIMITS and not is_filtered else None


def _computed(visibility: Visibility) -> Mapping[str, ColumnElement[object]]:
    """What isn't a column: the lease, as `TaskResponse.of` has it."""
    is_holder = and_(Task.status == TaskStatus.IN_PROGRESS, Task.assignee_id == visibility.viewer_id)
    lease = func.json_build_object(
        literal_column("'token'"), Task.lease_token, literal_column("'expires_at'"), moment(Task.lease_expires_at)
    )
    return {"lease": case((is_holder, lease))}
