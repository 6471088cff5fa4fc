"""A session for the few things that changes of tasks need, at a tenth of the cost of SQLAlchemy's. See ADR 32."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import asyncpg
from asyncpg.transaction import Transaction
from sqlalchemy import Executable, inspect
from sqlalchemy.orm import DeclarativeBase, InstanceState

from app.driver_pool import Driver
from app.row_writes import Kind, Table, Verb, Write, table_of, together
from app.session import Given
from app.statements import Answer, Statement, sql_of

NOTHING: Given = {}
NO_NAMES = frozenset[str]()
ONE_STATEMENT = "A unit of work of one statement was about to send a second one."


class QuickSession:
    """One transaction, which begins with its first statement.

    Like SQLAlchemy's session it has one object for each row, writes what was added, changed and deleted before the next
    statement, and fills in what the database has made of it. Unlike it, it knows no relations between objects, no
    lazy loading, and no selects of several models: the statement says all. What an UPDATE or DELETE does, objects that
    are known learn only if it returns them.
    """

    def __init__(self, connect: Callable[[], Awaitable[Driver]], *, is_one_statement: bool = False) -> None:
        """`connect` gives a connection with a transaction on it, whose end is somebody else's to see to.

        For one statement there need be none; a second one is refused then.
        """
        self.info: dict[Any, Any] = {}
        self._connect = connect
        self._is_one_statement = is_one_statement
        self._connection: Driver | None = None
        self._known: dict[tuple[Table, tuple[object, ...]], _Known] = {}
        self._added: list[DeclarativeBase] = []
        self._deleted: list[DeclarativeBase] = []

    async def scalar(self, statement: Executable, params: Given | None = None, /) -> Any:
        """The first value of the first row; None if there is no row."""
        sql = sql_of(statement)
        rows = await self._answered(sql, params)
        return self._value(sql.answers[0], rows[0]) if rows else None

    async def scalars(self, statement: Executable, params: Given | None = None, /) -> Sequence[Any]:
        """The first value of each row."""
        sql = sql_of(statement)
        rows = await self._answered(sql, params)
        return [self._value(sql.answers[0], row) for row in rows]

    async def execute(self, statement: Executable, params: Given | None = None, /) -> Sequence[tuple[Any, ...]]:
        """The values of each row."""
        sql = sql_of(statement)
        rows = await self._answered(sql, params)
        return [tuple(self._value(answer, row) for answer in sql.answers) for row in rows]

    def add(self, row: object, /) -> None:
        assert isinstance(row, DeclarativeBase)
        self._added.append(row)

    async def delete(self, row: object, /) -> None:
        assert isinstance(row, DeclarativeBase)
        self._deleted.append(row)

    async def flush(self) -> None:
        """Write what was changed, added and deleted, in this order; in one statement if that doesn't mind the order."""
        writes = [*self._updates(), *self._insertions(), *self._deletions()]
        if len({write.kind.table for write in writes}) < len(writes):
            if self._is_one_statement:
                raise RuntimeError(ONE_STATEMENT)
            for _, alike in groupby(writes, key=lambda write: write.kind):
                await self._write_alike(list(alike))
        elif writes:
            await self._write(writes)

    async def begin_nested(self) -> "_Savepoint":
        await self.flush()
        savepoint = (await self._connected()).transaction()
        await savepoint.start()
        return _Savepoint(self, savepoint)

    def forget_rows(self) -> None:
        """Whatever is known of rows may be so no longer. Objects that somebody has are looked after no more."""
        self._known.clear()
        self._added.clear()
        self._deleted.clear()

    async def _answered(self, sql: Statement, params: Given | None) -> list[asyncpg.Record]:
        await self.flush()
        connection = await self._connected()
        return await connection.fetch(sql.sql, *sql.arguments(params or NOTHING))

    async def _connected(self) -> Driver:
        if self._connection is None:
            self._connection = await self._connect()
        elif self._is_one_statement:
            raise RuntimeError(ONE_STATEMENT)
        return self._connection

    def _updates(self) -> Iterator[Write]:
        for (table, _), known in self._known.items():
            if known.state.committed_state and (changed := known.changed()):
                yield Write(Kind(Verb.UPDATE, table, changed), known.row)

    def _insertions(self) -> Iterator[Write]:
        added, self._added = self._added, []
        for row in added:
            table = table_of(type(row))
            table.fill_in_defaults(row)
            yield Write(Kind(Verb.INSERT, table, frozenset(table.values_of(row))), row)

    def _deletions(self) -> Iterator[Write]:
        deleted, self._deleted = self._deleted, []
        for row in deleted:
            yield Write(Kind(Verb.DELETE, table_of(type(row)), NO_NAMES), row)

    async def _write(self, writes: Sequence[Write]) -> None:
        """One statement for all of them."""
        way = together(tuple(write.kind for write in writes))
        connection = await self._connected()
        answers = await connection.fetch(way.sql, *way.arguments(writes))
        if not answers:
            raise RuntimeError(f"One of these rows is gone: {[write.row for write in writes]}")
        way.read(writes, tuple(answers[0]))
        self._note(writes)

    async def _write_alike(self, writes: Sequence[Write]) -> None:
        """One statement, sent once for each of them."""
        way = together((writes[0].kind,))
        connection = await self._connected()
        answers = await connection.fetchmany(way.sql, [way.arguments([write]) for write in writes])
        for write, answer in zip(writes, answers, strict=True):
            way.read([write], tuple(answer))
        self._note(writes)

    def _note(self, writes: Sequence[Write]) -> None:
        for write in writes:
            key = write.kind.table, write.kind.table.key_of(write.row)
            if write.kind.verb is Verb.DELETE:
                self._known.pop(key, None)
            else:
                self._known[key] = _Known.of(write.row)

    def _value(self, answer: Answer, row: asyncpg.Record) -> Any:
        if answer.model is not None:
            return self._object(table_of(answer.model), row, answer.place)
        value = row[answer.place]
        return answer.decode(value) if answer.decode and value is not None else value

    def _object(self, table: Table, record: asyncpg.Record, place: int) -> DeclarativeBase:
        key = table, tuple(record[column.name] for column in table.key)
        known = self._known.get(key)
        row = known.row if known else table.model()
        table.read_into(row, table.columns_read, record[place : place + len(table.columns_read)])
        self._known[key] = _Known.of(row)
        return row


class _Savepoint:
    def __init__(self, session: QuickSession, transaction: Transaction) -> None:
        self._session = session
        self._transaction = transaction
        self.is_active = True

    async def rollback(self) -> None:
        self.is_active = False
        self._session.forget_rows()
        await self._transaction.rollback()

    async def commit(self) -> None:
        await self._session.flush()
        self.is_active = False
        await self._transaction.commit()


@dataclass(frozen=True, slots=True)
class _Known:
    """An object whose row is known, and what SQLAlchemy notes of it: the values that were replaced since."""

    row: DeclarativeBase
    state: InstanceState[Any]

    @classmethod
    def of(cls, row: DeclarativeBase) -> "_Known":
        """The object is now what its row is."""
        state: InstanceState[Any] = inspect(row)
        state.committed_state.clear()
        return cls(row, state)

    def changed(self) -> frozenset[str]:
        present = self.row.__dict__
        changed = frozenset(name for name, before in self.state.committed_state.items() if present[name] != before)
        # What isn't read is made of what is, and its value before isn't known. It changes with others alone.
        return changed if changed.intersection(table_of(type(self.row)).columns_read) else NO_NAMES
