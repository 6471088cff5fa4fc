"""Statements that are made once and used for all who ask in the same way."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Select
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.sql.compiler import SQLCompiler

_DIALECT = dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects have no types.


class _Given:
    """Stands for what each use of the statement brings."""


GIVEN = _Given()


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL for the driver, and the names of what it's used with, in the order of their places."""

    sql: str
    _parameters: tuple[tuple[str, object], ...]

    @classmethod
    def of(cls, statement: Select[Any]) -> "Statement":
        """What has a name (`bindparam`) is given at each use. Everything else is fixed.

        Whatever a request brought must not be fixed, or it would be answered to the next one. What is fixed may
        therefore only be a member of a closed vocabulary.
        """
        compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
        assert isinstance(compiled, SQLCompiler)
        parameters = tuple((name, _constant(compiled, name)) for name in compiled.positiontup or ())
        return cls(compiled.string, parameters)

    def arguments(self, given: Mapping[str, object]) -> list[Any]:
        return [given[name] if constant is GIVEN else constant for name, constant in self._parameters]


def _constant(compiled: SQLCompiler, name: str) -> object:
    if name in compiled.binds and not compiled.binds[name].unique:
        return GIVEN
    value = compiled.params[name]
    if not isinstance(value, StrEnum):
        raise TypeError(f"{value!r} is fixed in a statement that serves all; give it a name")
    return value
