"""People and agents as everybody else sees them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from asyncpg import Record
from sqlalchemy import ARRAY, ColumnElement, Integer, Select, Uuid, any_, bindparam, case, literal_column, select, true

from app.database import Database
from app.db.statements import Statement
from app.models import User
from app.reads.json_columns import as_json, as_json_list, columns_of
from app.reads.page_parts import page_parts
from app.schemas.fields import PageQuery
from app.schemas.user import UserProfile
from app.services.assignment_service import UserNotFound
from app.services.pages import CursorCodec, Position
from app.services.user_directory import ORDER, SCOPE, select_directory

_ONLINE = bindparam("online", type_=ARRAY(Uuid()))
_COMPUTED: Mapping[str, ColumnElement[Any]] = {
    "online": User.id == any_(_ONLINE),
    "type": case((User.owner_id.is_(None), literal_column("'user'")), else_=literal_column("'agent'")),
}


@dataclass(frozen=True, slots=True)
class FoundUsers:
    """A page of the directory; `json` is what a list of `UserProfile` would be."""

    json: str
    next_cursor: str | None


class UserReads:
    """Reads say who is `online` by what they are told: the sockets know it, and PostgreSQL doesn't."""

    def __init__(self, database: Database, cursors: CursorCodec) -> None:
        self._database = database
        self._cursors = cursors

    async def get(self, user_id: UUID, *, online: Collection[UUID]) -> str:
        """Deactivated accounts too: finished tasks and events go on naming them. Raises `UserNotFound`."""
        row = await self._read(_one_user, {"user_id": user_id}, online)
        if row is None:
            raise UserNotFound
        return str(row[0])

    async def page(self, query: PageQuery, *, online: Collection[UUID]) -> FoundUsers:
        """The directory, by name."""
        position = self._cursors.decode(query.cursor, scope=SCOPE) if query.cursor else None
        after = {"after_key": position.key, "after_id": position.id} if position else {}
        row = await self._read(_later_page if position else _first_page, {"limit": query.limit, **after}, online)
        assert row is not None
        json, last_key, last_id = row
        cursor = self._cursors.encode(Position(last_key, last_id), scope=SCOPE) if last_id else None
        return FoundUsers(json, cursor)

    async def online(self, online: Collection[UUID], *, limit: int | None = None) -> str:
        """Those who are online, by name: all, or as many as `limit` says."""
        row = await self._read(_all_online, {"limit": limit}, online)
        assert row is not None
        return str(row[0])

    async def _read(
        self, make: Callable[[], Statement], given: Mapping[str, object], online: Collection[UUID]
    ) -> Record | None:
        statement = make()
        return await self._database.read(statement.sql, statement.arguments({**given, "online": list(online)}))


def _shown(users: Select[User]) -> Select[User]:
    return users.with_only_columns(*columns_of(UserProfile, User, _COMPUTED))


@cache
def _one_user() -> Statement:
    user = _shown(select(User).where(User.id == bindparam("user_id"))).subquery("person")
    return Statement.of(select(as_json(user)))


@cache
def _all_online() -> Statement:
    online = select_directory().where(User.id == any_(_ONLINE)).order_by(*ORDER.columns())
    # PostgreSQL takes a limit of null for none.
    online = online.limit(bindparam("limit", type_=Integer()))
    return Statement.of(select(as_json_list(_shown(online).subquery("person"))))


@cache
def _first_page() -> Statement:
    return _page(None)


@cache
def _later_page() -> Statement:
    return _page(Position("", UUID(int=0)))


def _page(position: Position | None) -> Statement:
    columns = columns_of(UserProfile, User, _COMPUTED)
    parts = page_parts(select_directory(), ORDER, position, columns, limit=bindparam("limit", type_=Integer()))
    one_row = select(literal_column("1")).subquery("one_row")
    return Statement.of(select(parts.items, *parts.last.c).select_from(one_row.outerjoin(parts.last, true())))
