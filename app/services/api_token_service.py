from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import and_, bindparam, delete, func, select

from app.core.auth import API_TOKEN_PREFIX, SignedIn
from app.core.errors import Conflict, NotFound
from app.core.permissions import Actor
from app.core.security import hash_secret, new_secret
from app.core.security_log import note
from app.db.purging import purge_some
from app.db.statements import keep
from app.db.transaction import Transaction
from app.models import ApiToken, User
from app.schemas.api_token import ApiTokenCreate
from app.schemas.fields import PageQuery
from app.services.pages import Listing, Order, Page, Pager, scope_of
from app.services.sign_in_endings import tell_of_ended_sign_ins
from app.services.sign_in_locks import lock_account_and_sign_in

# One that has run out is shown for so long, so that its owner can find out why a program is refused.
KEEP_EXPIRED = timedelta(days=30)
# With those that ran out lately.
MOST_TOKENS = 100
_IS_OWN = ApiToken.user_id == bindparam("user_id")
_TOKENS = Listing(select(ApiToken).where(_IS_OWN), Order(key=ApiToken.created_at, id=ApiToken.id, descending=True))
_IS_THE_ONE = and_(_IS_OWN, ApiToken.id == bindparam("token_id"))
_TOKEN = keep(select(ApiToken).where(_IS_THE_ONE))
_REVOKE = keep(delete(ApiToken).where(_IS_THE_ONE).returning(ApiToken.id))
_COUNT = keep(select(func.count()).select_from(ApiToken).where(_IS_OWN))


class TokenNotFound(NotFound):
    code = "token_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such token.")


class TooManyTokens(Conflict):
    code = "too_many_tokens"

    def __init__(self) -> None:
        super().__init__(f"There are {MOST_TOKENS} tokens of this account already; revoke one first.")


@dataclass(frozen=True, slots=True)
class NewToken:
    """The only place where the token itself is ever found."""

    row: ApiToken
    token: str


class ApiTokenService:
    """Tokens for programs. `user_id` is whose tokens they are; who may ask for them is decided before."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def make_own(self, signed_in: SignedIn, new: ApiTokenCreate) -> NewToken:
        """Make a token of one's own.

        Raises:
            NotSignedIn: the session has ended meanwhile.
            TooManyTokens: there are as many as there may be.
        """
        await lock_account_and_sign_in(self._transaction, signed_in)
        return await self.make(signed_in.actor.id, new)

    async def make(self, user_id: UUID, new: ApiTokenCreate) -> NewToken:
        """Make a token of an account for somebody whose sign-in is locked. Raises `TooManyTokens`."""
        # Two that are made at once wait for each other here, or both would be the last one.
        await self._transaction.get_locked(User, user_id)
        if (await self._transaction.scalar(_COUNT, {"user_id": user_id}) or 0) >= MOST_TOKENS:
            raise TooManyTokens
        token = API_TOKEN_PREFIX + new_secret()
        row = ApiToken(
            user_id=user_id,
            name=new.name,
            hash=hash_secret(token),
            scopes=sorted(new.scopes),
            expires_at=new.expires_at,
        )
        self._transaction.add(row)
        await self._transaction.flush()
        note(self._transaction.info, "token made", account_id=user_id, id=row.id, scopes=" ".join(row.scopes))
        return NewToken(row, token)

    async def list_of(self, user_id: UUID, query: PageQuery, pager: Pager) -> Page[ApiToken]:
        """Newest first; those that ran out lately too."""
        return await pager.fetch(_TOKENS, {"user_id": user_id}, query, scope=scope_of("api_tokens", user=user_id))

    async def get(self, user_id: UUID, token_id: UUID) -> ApiToken:
        found = await self._transaction.scalar(_TOKEN, {"token_id": token_id, "user_id": user_id})
        if found is None:
            raise TokenNotFound
        return found

    async def revoke(self, actor: Actor, user_id: UUID, token_id: UUID) -> None:
        """Revoke the token. Sockets and streams that were opened with it close."""
        # Of two who revoke it at once, one does.
        if await self._transaction.scalar(_REVOKE, {"token_id": token_id, "user_id": user_id}) is None:
            raise TokenNotFound
        note(self._transaction.info, "token revoked", account_id=user_id, id=token_id)
        await tell_of_ended_sign_ins(self._transaction, [token_id], user_id=user_id, actor=actor)

    async def revoke_all(self, user_ids: Sequence[UUID], *, by: Actor) -> int:
        """Revoke every token of these accounts; how many there were."""
        gone = delete(ApiToken).where(ApiToken.user_id.in_(user_ids)).returning(ApiToken.user_id, ApiToken.id)
        ended: defaultdict[UUID, list[UUID]] = defaultdict(list)
        for user_id, token_id in await self._transaction.execute(gone):
            ended[user_id].append(token_id)
        for user_id, token_ids in ended.items():
            await tell_of_ended_sign_ins(self._transaction, token_ids, user_id=user_id, actor=by)
        return sum(map(len, ended.values()))

    async def purge(self) -> bool:
        """Forget some of the tokens that ran out long ago; whether there may be more."""
        return await purge_some(self._transaction, ApiToken, ApiToken.expires_at < func.now() - KEEP_EXPIRED)
