"""A page of a list, as parts of a statement."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CTE, ColumnElement, Label, ScalarSelect, Select, Subquery, func, literal_column, select

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
) -> PageParts:
    """The rows of the list after the position, with these columns, as many as `limit` says."""
    shown = list(columns)
    if position:
        listed = listed.where(order.after(position))
    # One row more than asked for tells whether there is a next page.
    rows = (
        listed.order_by(*order.columns())
        .with_only_columns(*shown, order.key.label("sort_key"))
        .limit(limit + literal_column("1"))
        .cte("page")
    )
    item = select(*(rows.c[column.name] for column in shown)).limit(limit).subquery("item")
    return PageParts(select(as_json_list(item)).scalar_subquery(), _last_of(rows, limit))


def _last_of(rows: CTE, limit: ColumnElement[int]) -> Subquery:
    has_more = select(func.count() > limit).select_from(rows).scalar_subquery()
    last = select(rows.c.sort_key, rows.c.id).offset(limit - literal_column("1")).limit(literal_column("1"))
    return last.where(has_more).subquery("last")
