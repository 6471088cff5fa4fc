"""What `hive user` does: making accounts, looking after them, and handing over what an account owns."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import PydanticCustomError
from sqlalchemy import select

from app.core.addresses import address_key
from app.core.errors import HiveError
from app.core.security import new_secret
from app.database import Database
from app.models import AuditAction, User
from app.schemas.admin import AccountQuery, AdminUserResponse, SetPassword
from app.schemas.auth import UserRegister
from app.schemas.fields import normalize_email
from app.services import UserService
from app.services.hand_over import hand_over_batch
from app.services.notifier import Notifier
from app.services.operator import AT_THE_MACHINE, AuditLog
from app.services.pages import CursorCodec, Pager
from app.services.user_admin import UserAdmin


async def create_account(
    database_url: str, *, email: str, name: str, password: str, is_admin: bool, time_zone: str = "UTC"
) -> None:
    """Raises ValueError with a sentence when the account can't be made."""
    async with _connected(database_url, application="user create") as database:
        new = UserRegister(email=email, display_name=name or None, password=password, time_zone=time_zone)
        async with database.unit_of_work() as transaction:
            user = await UserService(transaction).register(new, is_admin=is_admin, is_confirmed=True)
            AuditLog(transaction).add(AT_THE_MACHINE, AuditAction.CREATED, user.id, admin=is_admin)


async def list_accounts(database_url: str, *, words: str | None) -> list[AdminUserResponse]:
    """All accounts whose name or address contains the words, newest first."""
    async with _connected(database_url, application="user list") as database:
        return [account async for account in _accounts(database, words)]


async def _accounts(database: Database, words: str | None) -> AsyncIterator[AdminUserResponse]:
    # A cursor of this list never leaves the process, so any key does.
    codec, cursor = CursorCodec(new_secret()), None
    while True:
        query = AccountQuery(q=words, limit=200, cursor=cursor)
        async with database.unit_of_work() as transaction:
            accounts = UserAdmin(transaction)
            page = await accounts.list_accounts(query, Pager(transaction, codec))
            shown = await accounts.show(page.items)
        for account in shown:
            yield account
        if (cursor := page.next_cursor) is None:
            return


Change = Callable[[UserAdmin, UUID], Awaitable[User]]


async def change_account(database_url: str, *, name: str, change: Change) -> str:
    """Do this to the account of an address or id, and return its address, or its id if it has none.

    Raises ValueError with a sentence when that can't be done.
    """
    async with _connected(database_url, application="user change") as database:
        found = await _find_account(database, name)
        async with database.unit_of_work() as transaction:
            user = await change(UserAdmin(transaction), found.id)
        return user.email or str(user.id)


async def deactivate(accounts: UserAdmin, user_id: UUID) -> User:
    return await accounts.deactivate(AT_THE_MACHINE, user_id)


async def reactivate(accounts: UserAdmin, user_id: UUID) -> User:
    return await accounts.reactivate(AT_THE_MACHINE, user_id)


async def promote(accounts: UserAdmin, user_id: UUID) -> User:
    return await accounts.promote(AT_THE_MACHINE, user_id)


async def demote(accounts: UserAdmin, user_id: UUID) -> User:
    return await accounts.demote(AT_THE_MACHINE, user_id)


def sign_out(*, keep_tokens: bool) -> Change:
    async def change(accounts: UserAdmin, user_id: UUID) -> User:
        return await accounts.sign_out(AT_THE_MACHINE, user_id, keep_tokens=keep_tokens)

    return change


def set_password(password: str, *, keep_tokens: bool) -> Change:
    async def change(accounts: UserAdmin, user_id: UUID) -> User:
        new = SetPassword(password=password, keep_tokens=keep_tokens)
        return await accounts.set_password(AT_THE_MACHINE, user_id, new.password, keep_tokens=new.keep_tokens)

    return change


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
            async with database.unit_of_work() as transaction:
                handed_over = await hand_over_batch(transaction, owners=owners, new_owner=receiver.id)
                if handed_over and count == 0:
                    await Notifier(transaction, sends_mail=sends_mail).tell_of_hand_over(receiver.id)
            if handed_over is None:
                async with database.unit_of_work() as transaction:
                    told = {"to": str(receiver.id), "tasks": count, "with_agents": with_agents}
                    AuditLog(transaction).add(AT_THE_MACHINE, AuditAction.HANDED_OVER, owner.id, **told)
                return count
            count += handed_over


async def _find_account(database: Database, name: str) -> User:
    """The account of this address or id, whether or not it has ended."""
    try:
        is_named = User.id == UUID(name)
    except ValueError:
        is_named = User.email_key == address_key(_normalized(name))
    async with database.unit_of_work() as transaction:
        found: User | None = await transaction.scalar(select(User).where(is_named))
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
    async with database.unit_of_work() as transaction:
        return set(await transaction.scalars(select(User.id).where(User.owner_id == owner.id)))


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
