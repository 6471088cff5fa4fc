"""Columns as the response models write them."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from sqlalchemy import ColumnElement, DateTime, Label, Subquery, Text, cast, func, literal_column
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute


def columns_of(
    response: type[BaseModel], model: type[DeclarativeBase], computed: Mapping[str, ColumnElement[Any]]
) -> Iterator[Label[Any]]:
    """The fields of the response: those that are computed, and for the others what the model has of the same name."""
    for name in response.model_fields:
        column: ColumnElement[Any] = computed[name] if name in computed else getattr(model, name)
        yield (moment(column) if isinstance(column.type, DateTime) else column).label(name)


def moment(column: ColumnElement[Any] | InstrumentedAttribute[Any]) -> ColumnElement[str]:
    """A time as pydantic writes it: in UTC, with six decimals or none."""
    in_utc = func.timezone(literal_column("'UTC'"), column)
    text = func.to_char(in_utc, literal_column("""'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"""))
    return func.replace(text, literal_column("'.000000Z'"), literal_column("'Z'"))


def as_json(row: Subquery) -> ColumnElement[str]:
    """The row as a JSON object. Its columns are the members, in their order."""
    return cast(func.row_to_json(row.table_valued()), Text)


def as_json_list(rows: Subquery) -> ColumnElement[str]:
    """All rows as a JSON array, in their order."""
    return func.coalesce(cast(func.json_agg(rows.table_valued()), Text), literal_column("'[]'"))
