import structlog

from app.core.auth import API_TOKEN_PREFIX, SignedIn, authenticate, note_use
from app.core.errors import HiveError
from app.core.logging import bind_user
from app.core.sign_in_memory import SignInMemory
from app.database import Database
from app.limits.known_tokens import KnownCaller, KnownTokens

log = structlog.stdlib.get_logger(__name__)


class SignIns:
    """Tokens to accounts: from memory where that's sure, else by a look-up."""

    def __init__(self, database: Database, known_tokens: KnownTokens, *, key: str) -> None:
        self.memory = SignInMemory()
        self._database = database
        self._known_tokens = known_tokens
        self._key = key

    async def sign_in(self, token: str) -> SignedIn:
        """Return whom the token speaks for. A revocation may be noticed a second late.

        Raises:
            NotSignedIn: the token is not valid, or was revoked.
        """
        signed_in = self.memory.find(token)
        if signed_in is None:
            return await self.look_up(token)
        bind_user(signed_in.actor.id)
        return signed_in

    async def look_up(self, token: str) -> SignedIn:
        """Look up whom the token speaks for at this moment.

        Raises:
            NotSignedIn: as above.
        """
        changes = self.memory.changes
        async with self._database.unit_of_work(is_one_statement=True, is_reading=True) as transaction:
            signed_in = await authenticate(transaction, token, key=self._key)
        if signed_in.is_to_note:
            await self._note_use(signed_in)
        if token.startswith(API_TOKEN_PREFIX):
            self._known_tokens.remember(token, KnownCaller(signed_in.actor.id, signed_in.person_id))
        self.memory.remember(token, signed_in, changes=changes)
        bind_user(signed_in.actor.id)
        return signed_in

    async def _note_use(self, signed_in: SignedIn) -> None:
        try:
            async with self._database.unit_of_work(is_one_statement=True) as transaction:
                await note_use(transaction, signed_in)
        except HiveError as error:
            # A database that takes no change now is no reason to keep readers out.
            log.warning("the use of an API token was not noted", reason=error.reason)
