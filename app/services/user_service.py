from uuid import UUID

from sqlalchemy import func

from app.core.auth import PasswordProof, WrongPassword
from app.core.errors import ServiceUnavailable
from app.core.passwords import refuse_own_names
from app.core.permissions import Actor
from app.core.security import hash_password
from app.core.security_log import note
from app.db.transaction import Transaction
from app.models import User
from app.schemas.auth import UserRegister
from app.schemas.user import UserUpdate
from app.services.account_endings import end_account_and_agents, require_other_admin
from app.services.account_locks import lock_admins
from app.services.account_mail import tell_old_address
from app.services.address_confirmation import ask_for_confirmation
from app.services.assignment_service import UserNotFound
from app.services.preconditions import UNCONDITIONAL, Precondition
from app.services.sign_outs import end_sign_ins

EDITABLE = {"display_name", "role", "skills", "email", "mail_notifications", "time_zone"}
# Keeps others from changing the account, and not from referring to it.
NO_KEY_UPDATE = {"key_share": True}


class PromotedMeanwhile(ServiceUnavailable):
    def __init__(self) -> None:
        super().__init__("Somebody has made you an admin at the same time; try again.", code="try_again")


class UserService:
    """Accounts: making them, and changing one's own. Those of others are read by `UserReads`."""

    def __init__(self, transaction: Transaction, precondition: Precondition = UNCONDITIONAL) -> None:
        self._transaction = transaction
        self._precondition = precondition

    async def register(
        self, new: UserRegister, *, password_hash: str | None = None, is_admin: bool = False, is_confirmed: bool = False
    ) -> User:
        """Make an account, whose password may have been hashed before.

        The unique index refuses a taken address with 409 `email_taken`, also of two at once.

        Raises:
            PasswordNamesAccount: the password is the account's own name or address.
        """
        refuse_own_names(new.password, addresses=(new.email,), names=(new.shown_name,))
        password_hash = password_hash or await hash_password(new.password)
        user = User(
            email=new.email,
            display_name=new.shown_name,
            role=new.role,
            skills=new.skills,
            time_zone=new.time_zone,
            password_hash=password_hash,
            is_admin=is_admin,
            email_confirmed_at=func.now() if is_confirmed else None,
        )
        self._transaction.add(user)
        await self._transaction.flush()
        if not is_confirmed:
            await ask_for_confirmation(self._transaction, user)
        note(self._transaction.info, "account made", account_id=user.id, admin=is_admin)
        return user

    async def get(self, user_id: UUID) -> User:
        user = await self._transaction.get(User, user_id)
        if user is None:
            raise UserNotFound
        return user

    async def update(
        self, actor: Actor, changes: UserUpdate, proof: PasswordProof | None = None, *, session_id: UUID | None = None
    ) -> User:
        """Change what is given.

        A new address or password ends, unless the changes say otherwise, all sessions but `session_id`, the one that
        asks, and all API tokens: somebody may have made them who knew the old ones.

        Raises:
            WrongPassword: a new address or password, without proof that the current password is known.
        """
        user = await self._lock(actor)
        if proof is not None or changes.changes_credentials_of(user.email):
            # Another password since the proof means that it proves nothing any more.
            if proof is None or proof.checked_hash != user.password_hash:
                raise WrongPassword
            user.password_hash = proof.new_hash or user.password_hash
        # The next statement writes it, and it's no change of the object any more.
        has_other_password = self._transaction.is_changed(user)
        if changes.changes_credentials_of(user.email):
            await self._replace_credentials(user, changes, actor=actor, session_id=session_id)
        given = changes.model_dump(include=EDITABLE)
        if proof is None:
            # It's the same address, in a spelling that nobody has proved to be theirs.
            given.pop("email", None)
        is_other_address = proof is not None and changes.changes_address_of(user.email)
        for field, value in given.items():
            setattr(user, field, value)
        if is_other_address:
            user.email_confirmed_at = None
        if has_other_password or self._transaction.is_changed(user):
            user.version += 1
        if is_other_address:
            await ask_for_confirmation(self._transaction, user)
        await self._transaction.flush()
        return user

    async def _replace_credentials(
        self, user: User, changes: UserUpdate, *, actor: Actor, session_id: UUID | None
    ) -> None:
        ended = await end_sign_ins(
            self._transaction,
            user,
            by=actor,
            but=session_id,
            keep_sessions=changes.keep_sessions,
            keep_tokens=changes.keep_tokens,
        )
        told = {"account_id": user.id, "sessions": ended.sessions, "tokens": ended.tokens}
        if changes.new_password:
            note(self._transaction.info, "password changed", **told)
        if changes.changes_address_of(user.email):
            note(self._transaction.info, "address changed", **told)
            await tell_old_address(self._transaction, user)

    async def deactivate(self, actor: Actor) -> None:
        """End the account and those of its agents: tokens and sockets die, work in progress becomes available.

        Raises:
            LastAdmin: there would be no admin left.
            PromotedMeanwhile: the actor was no admin when they were looked up.
        """
        if actor.is_admin:
            await lock_admins(self._transaction)
        user = await self._lock(actor)
        if user.is_admin and not actor.is_admin:
            # A promotion locks the admins first, and may be waiting for this account with that lock.
            raise PromotedMeanwhile
        await require_other_admin(self._transaction, user)
        await end_account_and_agents(self._transaction, user, by=actor)

    async def _lock(self, actor: Actor) -> User:
        user = await self._transaction.get_locked(User, actor.id)
        self._precondition.require_of_user(user)
        return user
