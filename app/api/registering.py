"""Registrations by strangers, who have their turns, and whose passwords are hashed before a connection is taken."""

import json
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from app.api.once import IdempotencyKey, begin_once, body_of
from app.core.permissions import NOBODY
from app.core.security import hash_password, keyed_hash
from app.dependencies import StateDep, TransactionDep, state_of
from app.schemas.auth import UserRegister, address_named_in
from app.services.registration import RegistrationClosed, is_registration_open


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What somebody registers, with the hash of their password."""

    body: UserRegister
    password_hash: str


async def hash_new_password(body: UserRegister, request: Request, state: StateDep) -> bool:
    """Whether anybody may register; if not, nothing is done for who tries."""
    if not await is_registration_open(state.database, state.settings):
        return False
    registrations = state.limits.registrations
    await registrations.count(state.limits.client_of(request.scope))
    async with registrations.turn():
        request.state.new_account = NewAccount(body, await hash_password(body.password))
    return True


async def get_new_account(request: Request) -> NewAccount | None:
    # Not by declaring the body once more, whose faults would be told as often. With a faulty body there is none, and
    # the endpoint isn't called.
    return getattr(request.state, "new_account", None)


# On a route with `OnceForNobody`, which takes no connection before the password is hashed.
NewAccountDep = Annotated[NewAccount, Depends(get_new_account)]


async def get_one_try_of_nobody(
    request: Request,
    transaction: TransactionDep,
    is_open: Annotated[bool, Depends(hash_new_password)],
    idempotency_key: IdempotencyKey = None,
) -> None:
    key = None if idempotency_key is None else await _key_of_stranger(request, idempotency_key)
    await begin_once(request, transaction, NOBODY, key)
    if not is_open:
        # Who has registered before, and did not get the answer, has got it by now. All others get nothing kept.
        raise RegistrationClosed


async def _key_of_stranger(request: Request, key: str) -> str:
    """Return the key as that of a stranger from this address who names this account.

    Strangers choose keys that others choose too, and one must neither get nor hinder the answer of another.
    """
    state = state_of(request)
    named = [state.limits.client_of(request.scope), address_named_in(await body_of(request)), key]
    return keyed_hash(json.dumps(named).encode(), key=state.settings.signing_key)


OnceForNobody = Depends(get_one_try_of_nobody)
