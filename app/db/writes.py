"""Writing single rows of the models: the statements that do it, one row or several rows at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any, cast

import sqlalchemy
from sqlalchemy import (
    ARRAY,
    JSON,
    Column,
    ColumnElement,
    Executable,
    FromClause,
    bindparam,
    delete,
    insert,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql.dml import ReturningDelete, ReturningInsert, ReturningUpdate
from sqlalchemy.sql.elements import NamedColumn
from sqlalchemy.sql.schema import CallableColumnDefault
from sqlalchemy.sql.visitors import ExternallyTraversible, replacement_traverse

from app.db.statements import Statement, columns_read, decoder

Writing = ReturningInsert[Any] | ReturningUpdate[Any] | ReturningDelete[Any]


class Table:
    """What a model says of its table."""

    def __init__(self, model: type[DeclarativeBase]) -> None:
        self.model = model
        self.name = model.__table__.description
        mapped = sqlalchemy.inspect(model).columns
        self.columns: Mapping[str, Column[Any]] = {each.name: each for each in mapped if isinstance(each, Column)}
        read = columns_read(model)
        self.columns_read = tuple(read)
        # What isn't stored in the row, and is read and returned with it.
        self.properties = [column for name, column in read.items() if name not in self.columns]
        self.key = [column for column in self.columns.values() if column.primary_key]
        self.key_places = [self.columns_read.index(column.name) for column in self.key]
        self.made_by_updates = [column for column in self.columns.values() if column.onupdate or column.computed]
        # Their values can be changed in place.
        self.collections = [name for name, column in self.columns.items() if isinstance(column.type, ARRAY | JSON)]
        self._decoders = {name: decoder(column.type) for name, column in {**self.columns, **read}.items()}
        self._defaults = {
            name: cast("Callable[[None], object]", column.default.arg)
            for name, column in self.columns.items()
            if isinstance(column.default, CallableColumnDefault)
        }

    def key_of(self, row: DeclarativeBase) -> tuple[object, ...]:
        return tuple(getattr(row, column.name) for column in self.key)

    def values_of(self, row: DeclarativeBase) -> dict[str, object]:
        """What the object has of its row. What was neither set nor read is missing."""
        present = row.__dict__
        return {name: present[name] for name in self.columns if name in present}

    def fill_in_defaults(self, row: DeclarativeBase) -> None:
        for name, make in self._defaults.items():
            if name not in row.__dict__:
                setattr(row, name, make(None))

    def read_into(self, row: DeclarativeBase, names: Sequence[str], values: Sequence[Any]) -> None:
        """Set the values of the object to what the driver has answered."""
        # Past SQLAlchemy's attributes, which would note each value as a change.
        present = row.__dict__
        for name, value in zip(names, values, strict=True):
            decode = self._decoders[name]
            present[name] = decode(value) if decode and value is not None else value


table_of = cache(Table)


class Verb(StrEnum):
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Kind:
    """Those that one statement does for all rows: the same to the same columns of the same table.

    `expressions` are values that the database works out, such as `func.now()`, by the names of their columns.
    """

    verb: Verb
    table: Table
    names: frozenset[str]
    # Two expressions aren't compared, for that would make a third one. They are told apart by what they are.
    expressions: tuple[tuple[str, ColumnElement[Any]], ...] = field(default=(), compare=False)
    identities: tuple[int, ...] = ()

    @classmethod
    def of(cls, verb: Verb, table: Table, values: Mapping[str, object]) -> "Kind":
        expressions = tuple((name, value) for name, value in values.items() if isinstance(value, ColumnElement))
        names = frozenset(values).difference(name for name, _ in expressions)
        return cls(verb, table, names, expressions, tuple(id(value) for _, value in expressions))

    def answered(self) -> Sequence[NamedColumn[Any]]:
        """What the database makes of the row besides what it's given."""
        columns, properties = self.table.columns, self.table.properties
        worked_out = [columns[name] for name, _ in self.expressions]
        defaults = [columns[name] for name in self.table.columns_read if name in columns and name not in self.names]
        others: Mapping[Verb, Sequence[NamedColumn[Any]]] = {
            Verb.INSERT: [*defaults, *map(self._of_new_row, properties)],
            Verb.UPDATE: [*self.table.made_by_updates, *worked_out, *properties],
            Verb.DELETE: [],
        }
        return others[self.verb] or self.table.key

    def _of_new_row(self, of_row: NamedColumn[Any]) -> NamedColumn[Any]:
        """Name the row's columns as text: SQLAlchemy would have a query in an INSERT read the table itself again."""

        def by_name(element: ExternallyTraversible, **_: Any) -> ColumnElement[Any] | None:
            if not isinstance(element, Column) or element.table.name != self.table.name:
                return None
            return literal_column(f"{self.table.name}.{element.name}", element.type)

        return cast("NamedColumn[Any]", replacement_traverse(of_row, {}, by_name))

    def given(self, number: int) -> Iterator[tuple[str, str]]:
        """The names of what the statement is used with, and those of the columns that they are for."""
        for name in sorted(self.names):
            yield _value_name(name, number), name
        if self.verb is not Verb.INSERT:
            for column in self.table.key:
                yield _key_name(column, number), column.name

    def statement(self, number: int) -> Writing:
        """The names of what it's used with end with the number."""
        model = self.table.model
        values: dict[str, Any] = {name: bindparam(_value_name(name, number)) for name in sorted(self.names)}
        values |= dict(self.expressions)
        is_the_row = tuple(self._is_the_row(number))
        match self.verb:
            case Verb.INSERT:
                return insert(model).values(values).returning(*self.answered())
            case Verb.UPDATE:
                return update(model).where(*is_the_row).values(values).returning(*self.answered())
            case Verb.DELETE:
                return delete(model).where(*is_the_row).returning(*self.answered())

    def _is_the_row(self, number: int) -> Iterator[ColumnElement[bool]]:
        for column in self.table.key:
            yield column == bindparam(_key_name(column, number), type_=column.type)


# SQLAlchemy names the values of expressions after columns, with a number behind.
def _value_name(column: str, number: int) -> str:
    return f"value_of_{column}_{number}"


def _key_name(column: Column[Any], number: int) -> str:
    return f"key_of_{column.name}_{number}"


@dataclass(frozen=True, slots=True)
class Write:
    kind: Kind
    row: DeclarativeBase


class Together:
    """Several kinds of writes as one statement, whose one row has what each of them has answered, one after another."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        make = Statement.for_once if any(kind.expressions for kind in kinds) else Statement.of
        statement = make(_statement_of(kinds))
        places = {name: (number, column) for number, kind in enumerate(kinds) for name, column in kind.given(number)}
        self.sql = statement.sql
        self._parameters = [(places.get(each.name), each.constant, each.encode) for each in statement.parameters]
        self._answered = [[column.name for column in kind.answered()] for kind in kinds]

    def arguments(self, writes: Sequence[Write]) -> list[Any]:
        rows = [write.row.__dict__ for write in writes]
        values = (
            (constant if place is None else rows[place[0]][place[1]], encode)
            for place, constant, encode in self._parameters
        )
        return [encode(value) if encode else value for value, encode in values]

    def read(self, writes: Sequence[Write], answer: Sequence[Any]) -> None:
        """Set the values of the objects to what the database has made of their rows."""
        place = 0
        for write, names in zip(writes, self._answered, strict=True):
            write.kind.table.read_into(write.row, names, answer[place : place + len(names)])
            place += len(names)


def together(kinds: tuple[Kind, ...]) -> Together:
    # Expressions are made anew each time, so what has some would be kept for nobody.
    return Together(kinds) if any(kind.expressions for kind in kinds) else _kept_together(kinds)


@cache
def _kept_together(kinds: tuple[Kind, ...]) -> Together:
    return Together(kinds)


def _statement_of(kinds: Sequence[Kind]) -> Executable:
    if len(kinds) == 1:
        return kinds[0].statement(0)
    parts = [kind.statement(number).cte(f"part_{number}") for number, kind in enumerate(kinds)]
    all_parts: FromClause = parts[0]
    for part in parts[1:]:
        all_parts = all_parts.join(part, true())
    columns = [column.label(f"{column.name}_{number}") for number, part in enumerate(parts) for column in part.c]
    return select(*columns).select_from(all_parts)
