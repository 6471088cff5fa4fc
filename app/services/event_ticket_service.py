"""Tickets that open a stream of events where no header can be sent."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import Interval, delete, func, type_coerce

from app.core.auth import TOKEN_BY_ID, SignedIn, find_actor_of_session, find_api_token, note_use
from app.core.errors import Unauthorized
from app.core.security import hash_secret, new_secret
from app.db.purging import purge_some
from app.db.transaction import Transaction
from app.models import EventTicket
from app.services.sign_in_locks import lock_sign_in

TICKET_LIFETIME = timedelta(seconds=30)


class InvalidTicket(Unauthorized):
    """The ticket is unknown, expired, used, or its sign-in has ended; the answer doesn't say which."""

    def __init__(self) -> None:
        super().__init__(
            "The ticket is not valid; each opens one stream, within 30 seconds. Get another one.", code="invalid_ticket"
        )


class EventTicketService:
    """Tickets are rows, so that any process redeems them once, also while Redis is away."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def issue(self, signed_in: SignedIn) -> str:
        """Return a ticket that has the rights of this sign-in.

        Raises:
            NotSignedIn: the sign-in has ended meanwhile.
        """
        await lock_sign_in(self._transaction, signed_in)
        ticket = new_secret()
        row = EventTicket(hash=hash_secret(ticket), expires_at=func.now() + TICKET_LIFETIME)
        if signed_in.scopes is None:
            row.session_id = signed_in.id
            # By PostgreSQL's clock, since another machine may redeem it.
            row.access_expires_at = func.clock_timestamp() + (signed_in.expires_at - datetime.now(UTC))
        else:
            row.api_token_id = signed_in.id
        self._transaction.add(row)
        await self._transaction.flush()
        return ticket

    async def redeem(self, ticket: str) -> SignedIn:
        """Return whose ticket it is, and use it up.

        Raises:
            InvalidTicket: it's not valid, or not any more.
        """
        left = type_coerce(EventTicket.access_expires_at - func.clock_timestamp(), Interval())
        row = await self._transaction.first(
            delete(EventTicket)
            .where(EventTicket.hash == hash_secret(ticket), EventTicket.expires_at > func.now())
            .returning(EventTicket.session_id, EventTicket.api_token_id, left)
        )
        found = None if row is None else await self._find_sign_in(*row)
        if found is None:
            raise InvalidTicket
        return found

    async def purge(self) -> bool:
        """Forget some of the tickets that nobody has used in time; whether there may be more."""
        return await purge_some(self._transaction, EventTicket, EventTicket.expires_at <= func.now())

    async def _find_sign_in(
        self, session_id: UUID | None, api_token_id: UUID | None, left: timedelta | None
    ) -> SignedIn | None:
        if session_id is None or left is None:
            by_token = await find_api_token(self._transaction, TOKEN_BY_ID, token_id=api_token_id)
            if by_token is not None:
                await note_use(self._transaction, by_token)
            return by_token
        actor = await find_actor_of_session(self._transaction, session_id)
        if actor is None or left <= timedelta(0):
            return None
        return SignedIn(actor, datetime.now(UTC) + left, session_id)
