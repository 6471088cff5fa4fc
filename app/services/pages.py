"""Keyset pages: a cursor says after which row the next page begins, and to which list it belongs.

A page begins strictly after the last row of the one before, in an order that the id makes total. Rows that are
added meanwhile therefore repeat nothing and leave nothing out.
"""

import hashlib
import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, islice
from typing import Any, Generic, TypeVar
from uuid import UUID

from cachetools import cached
from itsdangerous import BadData, URLSafeSerializer
from itsdangerous.encoding import base64_encode
from sqlalchemy import ColumnElement, Integer, Select, and_, bindparam, or_, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from app.core.errors import MalformedInput
from app.db.statements import keep
from app.db.transaction import Given, Transaction
from app.limits.answers import MAX_PAGE_BYTES
from app.schemas.fields import PageQuery

Item = TypeVar("Item")
Key = datetime | int | str | None


class InvalidCursor(MalformedInput):
    def __init__(self) -> None:
        super().__init__(
            "The cursor does not belong to this list; take it from the Link header and keep the other parameters.",
            field="cursor",
            where="query",
            code="invalid_cursor",
        )


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some rows of a list, and the cursor of the next page if there is one."""

    items: Sequence[Item]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Position:
    """The place of a row in a list: its sort key and its id."""

    key: Key
    id: UUID


class CursorCodec:
    """Makes cursors that only this server makes, each good for one list (`scope`) alone."""

    def __init__(self, signing_key: str) -> None:
        self._serializer = URLSafeSerializer(
            signing_key, salt="list-cursor", signer_kwargs={"digest_method": hashlib.sha256}
        )
        self._signer = self._serializer.make_signer()

    def encode(self, position: Position, *, scope: str) -> str:
        """Letters that an address can have as they are."""
        key = position.key
        stored = ["t", key.isoformat()] if isinstance(key, datetime) else ["v", key]
        content = json.dumps([_digest(scope), stored, str(position.id)], separators=(",", ":")).encode()
        # As the serializer does it, which would try to compress these few bytes first: as long as all the rest takes.
        return self._signer.sign(base64_encode(content)).decode()

    def decode(self, cursor: str, *, scope: str) -> Position:
        """The position that a cursor stands for.

        Raises:
            InvalidCursor: it's not ours, or made for another list, filter or sort.
        """
        try:
            found_scope, (kind, key), row_id = self._serializer.loads(cursor)
            if found_scope == _digest(scope):
                return Position(datetime.fromisoformat(key) if kind == "t" else key, UUID(row_id))
        except (BadData, ValueError, TypeError):
            # The same answer as for a cursor of another list.
            pass
        raise InvalidCursor


def scope_of(list_name: str, **parameters: object) -> str:
    """Names a list by all that decides about its rows and their order."""
    return json.dumps([list_name, parameters], sort_keys=True, default=str)


def _digest(scope: str) -> str:
    return hashlib.sha256(scope.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Order:
    """How a list is sorted: by a key, then by id. A null is greater than any value, as PostgreSQL has it."""

    key: InstrumentedAttribute[Any]
    id: InstrumentedAttribute[UUID]
    descending: bool = False
    nullable: bool = False

    def columns(self) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        if self.descending:
            return self.key.desc(), self.id.desc()
        return self.key.asc(), self.id.asc()

    def position_of(self, row: object) -> Position:
        return Position(getattr(row, self.key.key), getattr(row, self.id.key))

    def after(self, position: Position) -> ColumnElement[bool]:
        """The rows that come after the position, whose parts have names in the statement."""
        after_id = bindparam("after_id", position.id, self.id.type)
        if position.key is None:
            beyond = self.id < after_id if self.descending else self.id > after_id
            among_nulls = and_(self.key.is_(None), beyond)
            return or_(self.key.is_not(None), among_nulls) if self.descending else among_nulls
        row, reached = tuple_(self.key, self.id), tuple_(bindparam("after_key", position.key, self.key.type), after_id)
        if self.descending:
            return row < reached
        return or_(row > reached, self.key.is_(None)) if self.nullable else row > reached


@dataclass(frozen=True, eq=False, slots=True)
class Listing(Generic[Item]):
    """A list for all who ask for it: whatever a request brings has a name in `rows`. Its pages are made once.

    Where rows can be large, `size` is that of one, and a page has no more of them than `MAX_PAGE_BYTES`.
    """

    rows: Select[Item]
    order: Order
    size: ColumnElement[int] | None = None


class Pager:
    """Cuts lists into pages."""

    def __init__(self, transaction: Transaction, cursors: CursorCodec) -> None:
        self._transaction = transaction
        self._cursors = cursors

    async def fetch(self, listing: Listing[Item], given: Given, query: PageQuery, *, scope: str) -> Page[Item]:
        """The page of the list that the query asks for. `scope` names the list (see `scope_of`)."""
        position = self._cursors.decode(query.cursor, scope=scope) if query.cursor else None
        if position:
            given = {**given, "after_key": position.key, "after_id": position.id}
        limit = query.limit if listing.size is None else await self._fitting(listing, position, given, query.limit)
        # One row more than asked for tells whether there is a next page.
        rows = await self._transaction.scalars(_page(listing, position), {**given, "limit": limit + 1})
        if len(rows) <= limit:
            return Page(rows, None)
        items = rows[:limit]
        return Page(items, self._cursors.encode(listing.order.position_of(items[-1]), scope=scope))

    async def _fitting(self, listing: Listing[Item], position: Position | None, given: Given, limit: int) -> int:
        """How many of the first rows fit into a page, at least one."""
        sizes = await self._transaction.scalars(_sizes(listing, position), {**given, "limit": limit})
        before = accumulate(sizes, initial=0)
        return max(1, sum(1 for total in islice(before, limit) if total < MAX_PAGE_BYTES))


def _kind_of(listing: Listing[Any], position: Position | None) -> Hashable:
    return listing, position and (position.key is None, "after")


@cached({}, key=_kind_of)
def _page(listing: Listing[Item], position: Position | None) -> Select[Item]:
    return keep(_rows_after(listing, position))


@cached({}, key=_kind_of)
def _sizes(listing: Listing[Any], position: Position | None) -> Select[int]:
    assert listing.size is not None
    return keep(_rows_after(listing, position).with_only_columns(listing.size))


def _rows_after(listing: Listing[Item], position: Position | None) -> Select[Item]:
    rows = listing.rows.where(listing.order.after(position)) if position else listing.rows
    return rows.order_by(*listing.order.columns()).limit(bindparam("limit", 0, Integer()))
