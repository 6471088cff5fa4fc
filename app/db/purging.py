"""Deleting rows that nobody needs any more: so many in a transaction, and more in the next one."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy
from sqlalchemy import CTE, ColumnElement, Select, SQLColumnExpression, delete, select, tuple_
from sqlalchemy.orm import DeclarativeBase

from app.db.transaction import Transaction

AT_ONCE = 5_000


async def purge_some(
    transaction: Transaction,
    model: type[DeclarativeBase],
    *which: ColumnElement[bool],
    order: SQLColumnExpression[Any] | None = None,
    most: int | None = None,
) -> bool:
    """Delete some of the rows that fulfil all conditions, at most `AT_ONCE`; whether there may be more.

    Those that somebody is changing are passed over, since to wait for them could hold up who waits for others of these.
    """
    doomed = select(*_key_of(model)).where(*which).order_by(order).with_for_update(skip_locked=True)
    return await purge_found(transaction, model, doomed, most=most)


async def purge_found(
    transaction: Transaction, model: type[DeclarativeBase], doomed: Select[Any], *, most: int | None = None
) -> bool:
    """Delete the first rows of a statement that finds their keys; whether there may be more."""
    most = AT_ONCE if most is None else most
    is_doomed = tuple_(*_key_of(model)).in_(select(found_once(doomed.limit(most))))
    deleted = await transaction.execute(delete(model).where(is_doomed).returning(*_key_of(model)))
    return len(deleted) == most


def found_once(statement: Select[Any]) -> CTE:
    """What a statement finds, for another one to change.

    Within a condition it may be carried out again for each row. It would pass over those that were changed already,
    and find more in all than its limit.
    """
    return statement.cte().prefix_with("MATERIALIZED")


def _key_of(model: type[DeclarativeBase]) -> Sequence[ColumnElement[Any]]:
    return sqlalchemy.inspect(model).primary_key
