"""A transaction: SQLAlchemy's words, sent by the driver. See ADR 54."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Any, TypeAlias, TypeVar, overload

import asyncpg
from asyncpg.transaction import Transaction as DriverTransaction
from sqlalchemy import Executable, Select, bindparam, select
from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql.selectable import TypedReturnsRows

from app.db.known import NO_VALUES, Known
from app.db.limit import Use
from app.db.pool import Driver
from app.db.statements import Answer, Statement, keep, sql_of
from app.db.writes import Kind, Table, Verb, Write, table_of, together

Given = Mapping[str, object]
NOTHING: Given = {}
ONE_STATEMENT = "A transaction of one statement was about to send a second one."
ENDED = "The transaction has ended, and can't be used any more."
NOT_NEW = "The object has a row already, whose changes are written by themselves."
READS_ALONE = "A transaction that only reads was about to change something, or to lock it."
HAS_BEGUN = "The transaction has begun with reading, and can't be one for changes any more."
STILL_CONNECTING = "The first statement of the transaction is still waiting for a connection; send one after the other."
# Set on `info` by what wrote something that the relay should carry on after the commit.
WAKES_RELAY = "wakes_relay"
# The ids of sessions, tokens and accounts that have ended, which this process shall know of at once.
ENDED_SIGN_INS = "ended_sign_ins"
T = TypeVar("T")
Row = TypeVar("Row", bound=DeclarativeBase)
RowKey: TypeAlias = tuple[Table, tuple[object, ...]]
KnownRows: TypeAlias = Mapping[RowKey, Known]
# A statement whose rows have such a first value.
FirstIs: TypeAlias = TypedReturnsRows[T, *tuple[Any, ...]]


class Transaction:
    """One transaction, which begins with its first statement.

    There is one object for each row. What was added, changed and deleted is written before the next statement and at
    the end, and the objects get what the database has made of it. There are no relations between objects and no lazy
    loading: the statement says all. Objects learn what an UPDATE or DELETE statement does only if it returns them.

    A list or an object of JSON that is changed in place is a change as well. What is within those must be replaced.

    Whatever uses it after its end, or twice at once, is refused with a RuntimeError.

    `info` is what is to be done after the commit.
    """

    def __init__(
        self,
        connect: Callable[[Use], Awaitable[Driver]],
        *,
        connect_for_one: Callable[[Use], Awaitable[Driver]] | None = None,
        is_reading: bool = False,
    ) -> None:
        """`connect` gives a connection with a transaction on it, whose end is somebody else's to see to.

        `connect_for_one` gives one without, and is used when there is to be one statement. One that `is_reading` is
        refused changes and locks of rows: it must wait for nobody.
        """
        self.info: dict[Any, Any] = {}
        self._connect = connect
        self._connect_for_one = connect_for_one
        self._is_reading = is_reading
        # Whether the first statement is all that there will be, which needs no BEGIN; or if it's a change, it is.
        self.is_one_statement = False
        self.is_one_change = False
        self._connection: Driver | None = None
        self._is_connecting = False
        self.is_closed = False
        self._on_begin: Callable[[], Awaitable[None]] | None = None
        # Whether what there is has been that one statement, and then whether it stands, whatever comes after it.
        self._is_over = False
        self.is_committed = False
        self._known: dict[RowKey, Known] = {}
        self._added: list[DeclarativeBase] = []
        self._deleted: list[DeclarativeBase] = []

    def allow_changes(self) -> None:
        """Be one that changes something, though it was made for reading.

        Raises:
            RuntimeError: it has begun, on a connection for reads.
        """
        if self._connection is not None:
            raise RuntimeError(HAS_BEGUN)
        self._is_reading = False

    @overload
    async def scalar(self, statement: FirstIs[T], params: Given | None = None, /) -> T | None: ...

    @overload
    async def scalar(self, statement: Executable, params: Given | None = None, /) -> Any: ...

    async def scalar(self, statement: Executable, params: Given | None = None, /) -> Any:
        """The first value of the first row; None if there is no row."""
        sql = sql_of(statement)
        rows = await self._answered(sql, params)
        return self._values(sql, rows[0])[0] if rows else None

    @overload
    async def scalars(self, statement: FirstIs[T], params: Given | None = None, /) -> Sequence[T]: ...

    @overload
    async def scalars(self, statement: Executable, params: Given | None = None, /) -> Sequence[Any]: ...

    async def scalars(self, statement: Executable, params: Given | None = None, /) -> Sequence[Any]:
        """The first value of each row."""
        sql = sql_of(statement)
        rows = await self._answered(sql, params)
        return [self._values(sql, row)[0] for row in rows]

    async def execute(self, statement: Executable, params: Given | None = None, /) -> Sequence[tuple[Any, ...]]:
        """The values of each row."""
        sql = sql_of(statement)
        rows = await self._answered(sql, params)
        return [self._values(sql, row) for row in rows]

    async def one(self, statement: Executable, params: Given | None = None, /) -> tuple[Any, ...]:
        """The values of the one row that there is."""
        [row] = await self.execute(statement, params)
        return row

    async def first(self, statement: Executable, params: Given | None = None, /) -> tuple[Any, ...] | None:
        """The values of the first row; None if there is no row."""
        rows = await self.execute(statement, params)
        return rows[0] if rows else None

    async def get(self, model: type[Row], key: object, /) -> Row | None:
        """The row with this primary key, as it is now; None if there is none."""
        found: Row | None = await self.scalar(_by_key(model), {"key": key})
        return found

    async def get_locked(self, model: type[Row], key: object, /) -> Row:
        """The row with this primary key, which is there, locked for changes of all but its keys."""
        found: Row | None = await self.scalar(_locked_by_key(model), {"key": key})
        if found is None:
            raise NoResultFound(f"there is no such row of {model.__name__}")
        return found

    def is_changed(self, row: DeclarativeBase) -> bool:
        """Whether values of the object, which was read or written, are not those of its row any more."""
        table = table_of(type(row))
        return bool(self._known[table, table.key_of(row)].changed(table))

    def add(self, row: object, /) -> None:
        """Insert the object as a new row.

        Raises:
            RuntimeError: it has one, for it was read or written here.
        """
        self.require_open()
        assert isinstance(row, DeclarativeBase)
        table = table_of(type(row))
        known = self._known.get((table, table.key_of(row)))
        if known is not None and known.row is row:
            raise RuntimeError(NOT_NEW)
        self._added.append(row)

    async def delete(self, row: object, /) -> None:
        self.require_open()
        assert isinstance(row, DeclarativeBase)
        self._deleted.append(row)

    async def flush(self) -> None:
        """Write what was changed, added and deleted, in this order; in one statement if that doesn't mind the order."""
        self.require_open()
        if not (self._known or self._added or self._deleted):
            return
        writes = [*self._updates(), *self._insertions(), *self._deletions()]
        if writes:
            self._require_changes_allowed()
        if len({write.kind.table for write in writes}) < len(writes):
            for _, alike in groupby(writes, key=lambda write: write.kind):
                await self._write_alike(list(alike))
        elif writes:
            await self._write(writes)

    def begin_with(self, act: Callable[[], Awaitable[None]]) -> None:
        """Do this when the transaction begins, before what it begins for."""
        self._on_begin = act

    async def begin(self) -> None:
        """Begin now, where the first statement would come at an awkward place."""
        await self._connected()

    async def savepoint(self) -> "Savepoint":
        await self.flush()
        nested = (await self._connected()).transaction()
        await nested.start()
        return Savepoint(self, nested, dict(self._known))

    def return_to(self, known: KnownRows) -> None:
        """Give the objects the values that their rows had when this was known.

        Others, which were read or written since, are looked after no more: their rows may be gone.
        """
        self._known = dict(known)
        self._added.clear()
        self._deleted.clear()
        for each in known.values():
            each.restore()

    def require_open(self) -> None:
        """Raises a RuntimeError if the transaction has ended. Its connection may be somebody else's by now."""
        if self.is_closed:
            raise RuntimeError(ENDED)

    def _require_changes_allowed(self) -> None:
        if self._is_reading:
            raise RuntimeError(READS_ALONE)

    def close(self) -> None:
        """Refuse each further use."""
        self.is_closed = True
        self._connection = None

    async def _answered(self, sql: Statement, params: Given | None) -> list[asyncpg.Record]:
        await self.flush()
        if sql.touches_rows:
            self._require_changes_allowed()
        return await self._sent(sql.sql, sql.arguments(params or NOTHING), for_one=sql.is_change)

    async def _sent(self, sql: str, arguments: Sequence[object], *, for_one: bool) -> list[asyncpg.Record]:
        connection = await self._connected(for_one=for_one)
        rows = await connection.fetch(sql, *arguments)
        self.is_committed = self._is_over
        return rows

    async def _connected(self, *, for_one: bool = False) -> Driver:
        self.require_open()
        if self._is_connecting:
            raise RuntimeError(STILL_CONNECTING)
        if self._is_over:
            raise RuntimeError(ONE_STATEMENT)
        if self._connection is None:
            is_sole = self._on_begin is None and (self.is_one_statement or (self.is_one_change and for_one))
            connect_for_one = self._connect_for_one if is_sole else None
            self._is_over = connect_for_one is not None
            self._is_connecting = True
            try:
                self._connection = await (connect_for_one or self._connect)(self._use)
            finally:
                self._is_connecting = False
            # It may have ended meanwhile.
            self.require_open()
            if self._on_begin is not None:
                act, self._on_begin = self._on_begin, None
                await act()
        return self._connection

    @property
    def _use(self) -> Use:
        return Use.READ if self._is_reading else Use.CHANGE

    def _updates(self) -> Iterator[Write]:
        for (table, _), known in self._known.items():
            if changed := known.changed(table):
                yield Write(Kind.of(Verb.UPDATE, table, changed), known.row)

    def _insertions(self) -> Iterator[Write]:
        added, self._added = self._added, []
        if len({id(row) for row in added}) < len(added):
            raise RuntimeError(NOT_NEW)
        for row in added:
            table = table_of(type(row))
            table.fill_in_defaults(row)
            yield Write(Kind.of(Verb.INSERT, table, table.values_of(row)), row)

    def _deletions(self) -> Iterator[Write]:
        deleted, self._deleted = self._deleted, []
        for row in deleted:
            yield Write(Kind.of(Verb.DELETE, table_of(type(row)), NO_VALUES), row)

    async def _write(self, writes: Sequence[Write]) -> None:
        """One statement for all of them."""
        way = together(tuple(write.kind for write in writes))
        answers = await self._sent(way.sql, way.arguments(writes), for_one=True)
        _require_rows(writes, found=len(answers) == 1)
        way.read(writes, tuple(answers[0]))
        self._note(writes)

    async def _write_alike(self, writes: Sequence[Write]) -> None:
        """One statement, sent once for each of them."""
        way = together((writes[0].kind,))
        connection = await self._connected()
        answers = await connection.fetchmany(way.sql, [way.arguments([write]) for write in writes])
        _require_rows(writes, found=len(answers) == len(writes))
        for write, answer in zip(writes, answers, strict=True):
            way.read([write], tuple(answer))
        self._note(writes)

    def _note(self, writes: Sequence[Write]) -> None:
        for write in writes:
            key = write.kind.table, write.kind.table.key_of(write.row)
            if write.kind.verb is Verb.DELETE:
                self._known.pop(key, None)
            else:
                self._known[key] = Known(write.row, write.kind.table)

    def _values(self, sql: Statement, row: asyncpg.Record) -> tuple[Any, ...]:
        return tuple(self._value(answer, row) for answer in sql.answers) if sql.answers else tuple(row)

    def _value(self, answer: Answer, row: asyncpg.Record) -> Any:
        if answer.model is not None:
            return self._object(table_of(answer.model), row, answer.place)
        value = row[answer.place]
        return answer.decode(value) if answer.decode and value is not None else value

    def _object(self, table: Table, record: asyncpg.Record, place: int) -> DeclarativeBase | None:
        values = record[place : place + len(table.columns_read)]
        key = table, tuple(values[position] for position in table.key_places)
        if None in key[1]:
            # The row of an outer join to which there is none.
            return None
        known = self._known.get(key)
        row = known.row if known else table.model()
        table.read_into(row, table.columns_read, values)
        self._known[key] = Known(row, table)
        return row


class Savepoint:
    """A part of a transaction that can be undone without the rest."""

    def __init__(
        self,
        transaction: Transaction,
        nested: DriverTransaction,
        known: KnownRows,
    ) -> None:
        """`known` are the objects when it begins, and what their rows are."""
        self._transaction = transaction
        self._nested = nested
        self._known = known
        self._is_active = True

    async def undo(self) -> None:
        """Undo what was done since. The objects from before are what they were then."""
        self._transaction.require_open()
        self._is_active = False
        self._transaction.return_to(self._known)
        await self._nested.rollback()

    async def release(self) -> None:
        """Leave what was done since to the transaction; harmless when it was undone."""
        if self._is_active:
            await self._transaction.flush()
            self._is_active = False
            await self._nested.commit()


@cache
def _by_key(model: type[Row]) -> Select[Row]:
    [column] = table_of(model).key
    return keep(select(model).where(column == bindparam("key")))


@cache
def _locked_by_key(model: type[Row]) -> Select[Row]:
    return keep(_by_key(model).with_for_update(key_share=True))


def _require_rows(writes: Sequence[Write], *, found: bool) -> None:
    if not found:
        raise RuntimeError(f"One of these rows is gone: {[write.row for write in writes]}")
