"""A page of a list, as parts of a statement."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Label,
    ScalarSelect,
    Select,
    Subquery,
    bindparam,
    case,
    func,
    literal_column,
    select,
)

from app.reads.json_columns import as_json_list
from app.services.pages import Order, Position


@dataclass(frozen=True, slots=True)
class PageParts:
    """`items` is the page as JSON; `last` has key and id of its last row, if there is one after it."""

    items: ScalarSelect[str]
    last: Subquery


def page_parts(
    listed: Select[Any],
    order: Order,
    position: Position | None,
    columns: Iterable[Label[Any]],
    *,
    limit: ColumnElement[int],
    size: ColumnElement[int] | None = None,
) -> PageParts:
    """The rows of the list after the position, with these columns, as many as `limit` says.

    Where their `size` is given, there are as many as fit into `most_bytes`, and one in any case.
    """
    shown = list(columns)
    if position:
        listed = listed.where(order.after(position))
    # One row more than asked for tells whether there is a next page.
    rows = (
        listed.order_by(*order.columns())
        .with_only_columns(*shown, order.key.label("sort_key"), *([] if size is None else [size.label("size")]))
        .limit(limit + literal_column("1"))
        .cte("page")
    )
    if size is not None:
        limit = _fitting(rows, limit)
    item = select(*(rows.c[column.name] for column in shown)).limit(limit).subquery("item")
    return PageParts(select(as_json_list(item)).scalar_subquery(), _last_of(rows, limit))


def _fitting(rows: CTE, limit: ColumnElement[int]) -> ScalarSelect[int]:
    """How many rows begin before the page is as large as it may be. Nearly always that's all, which is soon seen."""
    most = bindparam("most_bytes", type_=BigInteger())
    total = func.coalesce(func.sum(rows.c.size), literal_column("0"))
    before = func.sum(rows.c.size).over(rows=(None, 0)) - rows.c.size
    measured = select(before.label("before")).select_from(rows).subquery("measured")
    fits = select(func.count()).select_from(measured).where(measured.c.before < most).scalar_subquery()
    number = case((total <= most, limit), else_=func.least(limit, func.greatest(literal_column("1"), fits)))
    # It's asked for more than once, and counted once.
    fitting = select(number.label("number")).select_from(rows).cte("fitting")
    return select(fitting.c.number).scalar_subquery()


def _last_of(rows: CTE, limit: ColumnElement[int]) -> Subquery:
    has_more = select(func.count() > limit).select_from(rows).scalar_subquery()
    last = select(rows.c.sort_key, rows.c.id).offset(limit - literal_column("1")).limit(literal_column("1"))
    return last.where(has_more).subquery("last")
