"""SQLAlchemy's statements as SQL for the driver, made once and used for all who ask in the same way."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import JSON, Column, Executable, Select, UpdateBase, inspect
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement, NamedColumn
from sqlalchemy.types import TypeEngine

DIALECT = dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects have no types.
Convert = Callable[[Any], Any]
AnyStatement = TypeVar("AnyStatement", bound=Executable)


# Values are never in the text, and names of ours are written small.
_TOUCHES_ROWS = re.compile(r"\b(INSERT|UPDATE|DELETE|FOR (KEY )?SHARE)\b")


class _Given:
    """Stands for what each use of the statement brings."""


GIVEN = _Given()


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    constant: object
    encode: Convert | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A part of each row: an object of the model whose columns begin at this place, or the one column there."""

    model: type[DeclarativeBase] | None
    place: int
    decode: Convert | None


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL for the driver, what it's used with in the order of their places, and what its rows have.

    `is_change` says that it's an INSERT, UPDATE or DELETE, and `touches_rows` that it or a part of it is one, or locks.
    """

    sql: str
    parameters: tuple[Parameter, ...]
    answers: tuple[Answer, ...]
    is_change: bool
    touches_rows: bool

    @classmethod
    def of(cls, statement: Executable) -> "Statement":
        """For all uses. What has a name (`bindparam`) is given at each use, everything else is fixed.

        Whatever a request brought must not be fixed, or it would be answered to the next one. What is fixed may
        therefore only be a member of a closed vocabulary.
        """
        return cls._compiled(statement, _constant)

    @classmethod
    def for_once(cls, statement: Executable) -> "Statement":
        """For one use, with all that it was made with."""
        return cls._compiled(statement, _present_value)

    @classmethod
    def _compiled(cls, statement: Executable, constant: Callable[[SQLCompiler, str], object]) -> "Statement":
        assert isinstance(statement, ClauseElement)
        compiled = statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
        assert isinstance(compiled, SQLCompiler)
        if left_out := [*compiled.insert_prefetch, *compiled.update_prefetch]:
            raise TypeError(
                f"nobody makes the defaults of {[column.name for column in left_out]} here; give them values"
            )
        parameters = tuple(
            Parameter(name, constant(compiled, name), _encoder_of(compiled, name))
            for name in compiled.positiontup or ()
        )
        return cls(
            compiled.string,
            parameters,
            tuple(_answers(statement)),
            is_change=isinstance(statement, UpdateBase),
            touches_rows=_TOUCHES_ROWS.search(compiled.string) is not None,
        )

    def arguments(self, given: Mapping[str, object]) -> list[Any]:
        return [
            parameter.encode(value) if parameter.encode else value
            for parameter in self.parameters
            for value in (given[parameter.name] if parameter.constant is GIVEN else parameter.constant,)
        ]


_KEPT: WeakSet[Executable] = WeakSet()
_MADE: WeakKeyDictionary[Executable, Statement] = WeakKeyDictionary()


def keep(statement: AnyStatement) -> AnyStatement:
    """Compile the statement once, and keep its SQL for as long as the statement itself is held by somebody."""
    _KEPT.add(statement)
    return statement


def sql_of(statement: Executable) -> Statement:
    """As it's kept, or for this once."""
    made = _MADE.get(statement)
    if made is None and statement in _KEPT:
        made = _MADE[statement] = Statement.of(statement)
    return made or Statement.for_once(statement)


@cache
def columns_read(model: type[DeclarativeBase]) -> Mapping[str, NamedColumn[Any]]:
    """What a statement reads when it names the model: what isn't deferred of its columns and `column_property`s."""
    mapper = inspect(model)
    read = {each.key: mapper.columns[each.key] for each in mapper.column_attrs if not each.deferred}
    return {name: column if isinstance(column, Column) else column.label(name) for name, column in read.items()}


def whole(model: type[DeclarativeBase]) -> Iterable[NamedColumn[Any]]:
    """What an UPDATE has to return for the objects of its rows. The model alone would be without `column_property`s."""
    return columns_read(model).values()


def encoder(type_: TypeEngine[Any]) -> Convert | None:
    """What makes the driver's value of one of ours."""
    return type_.dialect_impl(DIALECT).bind_processor(DIALECT)


def decoder(type_: TypeEngine[Any]) -> Convert | None:
    """What makes our value of the driver's."""
    if isinstance(type_, JSON):
        return _read_json
    return type_.dialect_impl(DIALECT).result_processor(DIALECT, None)


def _read_json(value: object) -> object:
    # SQLAlchemy has its connections read JSON themselves, others give the text. Ours are all objects and lists.
    return json.loads(value) if isinstance(value, str) else value


def _encoder_of(compiled: SQLCompiler, name: str) -> Convert | None:
    # One of several values of an IN has no entry of its own, and needs none.
    return encoder(compiled.binds[name].type) if name in compiled.binds else None


def _constant(compiled: SQLCompiler, name: str) -> object:
    if name in compiled.binds and not compiled.binds[name].unique:
        return GIVEN
    value = compiled.params[name]
    if not isinstance(value, StrEnum):
        raise TypeError(f"{value!r} is fixed in a statement that serves all; give it a name")
    return value


def _present_value(compiled: SQLCompiler, name: str) -> object:
    is_to_be_given = name in compiled.binds and compiled.binds[name].required
    return GIVEN if is_to_be_given else compiled.params[name]


def _answers(statement: Executable) -> Iterator[Answer]:
    if isinstance(statement, UpdateBase):
        yield from _answers_of_change(statement)
        return
    if not isinstance(statement, Select):
        # A text, whose columns nobody knows. They are left as the driver gives them.
        return
    place = 0
    for described in statement.column_descriptions:
        entity = described.get("entity")
        if entity is not None and described["expr"] is entity:
            # An alias of a model is read as the model.
            model: type[DeclarativeBase] = inspect(entity).mapper.class_
            yield Answer(model, place, None)
            place += len(columns_read(model))
        else:
            yield Answer(None, place, decoder(described["type"]))
            place += 1


def _answers_of_change(statement: UpdateBase) -> Iterator[Answer]:
    model = statement.entity_description.get("entity") if statement.exported_columns else None
    names = list(statement.exported_columns.keys())
    if model is not None and names == list(columns_read(model)):
        yield Answer(model, 0, None)
        return
    if model is not None and names == list(model.__table__.columns.keys()):
        raise TypeError(f"for objects the statement has to return whole({model.__name__})")
    for place, column in enumerate(statement.exported_columns):
        yield Answer(None, place, decoder(column.type))
