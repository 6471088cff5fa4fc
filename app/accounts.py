"""What `hive user` does: making accounts, and handing over what an account owns."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import PydanticCustomError
from sqlalchemy import select

from app.core.addresses import address_key
from app.core.errors import HiveError
from app.database import Database
from app.models import User
from app.schemas.auth import UserRegister
from app.schemas.fields import normalize_email
from app.services import UserService
from app.services.hand_over import hand_over_batch
from app.services.notifier import Notifier


async def create_account(
    database_url: str, *, email: str, name: str, password: str, is_admin: bool, time_zone: str = "UTC"
) -> None:
    """Raises ValueError with a sentence when the account can't be made."""
    async with _connected(database_url, application="user create") as database:
        new = UserRegister(email=email, display_name=name or None, password=password, time_zone=time_zone)
        async with database.unit_of_work() as session:
            await UserService(session).register(new, is_admin=is_admin)


async def hand_over_tasks(database_url: str, *, old: str, new: str, with_agents: bool, sends_mail: bool = False) -> int:
    """Hand all tasks of an account over to another one, and return how many. Each account is an address or an id.

    The new owner is notified once, and by mail as well if this HIVE `sends_mail`.

    Raises ValueError with a sentence when that can't be done. What was handed over until then stays so.
    """
    async with _connected(database_url, application="user hand-over") as database:
        owner, receiver = [await _find_account(database, name) for name in (old, new)]
        if owner.id == receiver.id:
            raise ValueError("Both are the same account.")
        if not receiver.is_active:
            raise ValueError(f"The account {new} has ended, so it can't own tasks.")
        owners = {owner.id} | (await _agents_of(database, owner) - {receiver.id} if with_agents else set())
        count = 0
        while True:
            async with database.unit_of_work() as session:
                handed_over = await hand_over_batch(session, owners=owners, new_owner=receiver.id)
                if handed_over and count == 0:
                    await Notifier(session, sends_mail=sends_mail).tell_of_hand_over(receiver.id)
            if handed_over is None:
                return count
            count += handed_over


async def _find_account(database: Database, name: str) -> User:
    """The account of this address or id, whether or not it has ended."""
    try:
        is_named = User.id == UUID(name)
    except ValueError:
        is_named = User.email_key == address_key(_normalized(name))
    async with database.unit_of_work() as session:
        found: User | None = await session.scalar(select(User).where(is_named))
    if found is None:
        raise ValueError(f"There is no account {name}.")
    return found


def _normalized(address: str) -> str:
    """The address as accounts have it: an international domain is stored in its ASCII form."""
    try:
        return normalize_email(address)
    except PydanticCustomError:
        raise ValueError(f"{address} is neither an e-mail address nor an id.") from None


async def _agents_of(database: Database, owner: User) -> set[UUID]:
    async with database.unit_of_work() as session:
        return set(await session.scalars(select(User.id).where(User.owner_id == owner.id)))


@asynccontextmanager
async def _connected(database_url: str, *, application: str) -> AsyncIterator[Database]:
    """A database whose faults, and those of what it was given, are a ValueError with a sentence."""
    database = Database.connect(database_url, application=application)
    try:
        yield database
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ValueError("; ".join(faults)) from None
    except HiveError as error:
        raise ValueError(error.reason) from None
    finally:
        await database.close()
