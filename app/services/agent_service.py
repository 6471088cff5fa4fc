from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Select, bindparam, func, select

from app.core.auth import SignedIn
from app.core.errors import Conflict, NotFound
from app.core.permissions import Actor
from app.db.statements import keep
from app.db.transaction import Transaction
from app.models import User
from app.schemas.agent import AgentCreate
from app.schemas.api_token import ApiTokenCreate
from app.schemas.fields import PageQuery
from app.services.account_emptying import KEEP
from app.services.account_endings import end_accounts
from app.services.api_token_service import ApiTokenService, NewToken
from app.services.pages import Listing, Order, Page, Pager, scope_of
from app.services.sign_in_locks import lock_account_and_sign_in

# What one account may have open or ask for is limited, and agents are accounts.
MOST_AGENTS = 50
# With those that have ended and are not emptied yet: their rows stay for good.
MOST_WITH_ENDED = 500
_IS_OWN = User.owner_id == bindparam("owner_id")
_AGENTS = Listing(select(User).where(_IS_OWN, User.is_active), Order(key=User.created_at, id=User.id, descending=True))
_AGENT = keep(_AGENTS.rows.where(User.id == bindparam("agent_id")))
_LOCKED_AGENT = keep(_AGENT.with_for_update(key_share=True))
_COUNT = keep(select(func.count().filter(User.is_active), func.count()).where(_IS_OWN, User.emptied_at.is_(None)))


class AgentNotFound(NotFound):
    code = "agent_not_found"

    def __init__(self) -> None:
        super().__init__("You have no such agent.")


class TooManyAgents(Conflict):
    code = "too_many_agents"

    def __init__(self) -> None:
        super().__init__(f"You have {MOST_AGENTS} agents, and may not have more.")


class TooManyEndedAgents(Conflict):
    code = "too_many_agents"

    def __init__(self) -> None:
        super().__init__(
            f"You have made {MOST_WITH_ENDED} agents, with those that have ended within the last {KEEP.days} days;"
            " give an agent another token in place of making another one."
        )


@dataclass(frozen=True, slots=True)
class NewAgent:
    """An agent with its first token, which is found nowhere else."""

    agent: User
    first: NewToken


class AgentService:
    """Accounts of programs. Each belongs to a person, has no rights of theirs, and ends with them."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def make(self, signed_in: SignedIn, new: AgentCreate) -> NewAgent:
        """Make an agent of the account.

        Raises:
            NotSignedIn: the session or the account has ended meanwhile.
            TooManyAgents: there are as many as there may be.
            TooManyEndedAgents: and so many have ended lately that it's the same.
        """
        # Of an owner who ends at the same time, the agent would stay behind.
        await lock_account_and_sign_in(self._transaction, signed_in)
        owner = signed_in.actor
        await self._require_room(owner)
        agent = User(
            owner_id=owner.id,
            display_name=new.display_name,
            role=new.role,
            skills=new.skills,
            mail_notifications=False,
        )
        self._transaction.add(agent)
        await self._transaction.flush()
        token = ApiTokenCreate(name="First token", scopes=new.scopes, expires_at=new.expires_at)
        return NewAgent(agent, await ApiTokenService(self._transaction).make(agent.id, token))

    async def _require_room(self, owner: Actor) -> None:
        active, with_ended = await self._transaction.one(_COUNT, {"owner_id": owner.id})
        if active >= MOST_AGENTS:
            raise TooManyAgents
        if with_ended >= MOST_WITH_ENDED:
            raise TooManyEndedAgents

    async def make_token(self, signed_in: SignedIn, agent_id: UUID, new: ApiTokenCreate) -> NewToken:
        """Make a further token of one's own agent.

        Raises:
            NotSignedIn: the session or the account has ended meanwhile.
            AgentNotFound: the agent has ended, or is somebody else's.
            TooManyTokens: it has as many as it may have.
        """
        # Before the agent is locked, since an owner who ends is locked before their agents.
        await lock_account_and_sign_in(self._transaction, signed_in)
        agent = await self.access(signed_in.actor, agent_id)
        return await ApiTokenService(self._transaction).make(agent.id, new)

    async def list_own(self, owner: Actor, query: PageQuery, pager: Pager) -> Page[User]:
        """Newest first."""
        return await pager.fetch(_AGENTS, {"owner_id": owner.id}, query, scope=scope_of("agents", owner=owner.id))

    async def find(self, owner: Actor, agent_id: UUID) -> User:
        """One's own agent.

        Raises:
            AgentNotFound: it has ended, or is somebody else's.
        """
        return await self._found(_AGENT, owner, agent_id)

    async def access(self, owner: Actor, agent_id: UUID) -> User:
        """One's own agent, which can't end before the transaction does.

        Raises:
            AgentNotFound: as above.
        """
        return await self._found(_LOCKED_AGENT, owner, agent_id)

    async def _found(self, one: Select[User], owner: Actor, agent_id: UUID) -> User:
        agent = await self._transaction.scalar(one, {"owner_id": owner.id, "agent_id": agent_id})
        if agent is None:
            raise AgentNotFound
        return agent

    async def end(self, owner: Actor, agent_id: UUID) -> None:
        await end_accounts(self._transaction, [await self.access(owner, agent_id)], by=owner)
