"""Passwords and tokens, without a database: hashing, checking, issuing, reading."""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

import jwt
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from uuid_utils.compat import uuid7

from app.core.errors import ServiceUnavailable

T = TypeVar("T")

ALGORITHM = "HS256"
AUDIENCE = "hive:access"
REQUIRED_CLAIMS = ["exp", "iat", "sub", "sid", "jti", "aud"]
# How far the clocks of two machines may differ before one refuses the tokens of the other.
LEEWAY = timedelta(seconds=60)

# OWASP's parameters for argon2id: about 20 ms and 19 MiB a hash.
_passwords = PasswordHash((Argon2Hasher(time_cost=2, memory_cost=19456, parallelism=1),))
# One thread: hashing releases the GIL and would otherwise take the cores from the requests.
# About three seconds' worth; a later one would wait for longer than it's worth.
MOST_HASHES_WAITING = 128
_hashes_waiting = 0
_hashing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="argon2")
# What an unknown address is checked against, so that it takes as long as a known one: the hash of a random password.
# Every process would make its own at its start otherwise, which takes as long as to load a large library.
_NOBODYS_HASH = "$argon2id$v=19$m=19456,t=2,p=1$cnW53Q6rCObJA2I8vekcFA$iy4FUBX+qAmNKs8slkaXlPxjvjKdnGZqXpV9pV8791Q"


async def hash_password(password: str) -> str:
    """An argon2id hash in its own format (`$argon2id$v=19$…`). Takes tens of milliseconds, off the event loop."""
    return await _in_hashing_thread(lambda: _passwords.hash(password))


async def password_matches(password: str, password_hash: str | None) -> bool:
    """Whether the password is the hashed one; without a hash, False after the same time."""
    matches = await _in_hashing_thread(lambda: _passwords.verify(password, password_hash or _NOBODYS_HASH))
    return matches and password_hash is not None


async def _in_hashing_thread(work: Callable[[], T]) -> T:
    global _hashes_waiting  # noqa: PLW0603  # A count beside the one thread that it counts for.
    if _hashes_waiting >= MOST_HASHES_WAITING:
        raise ServiceUnavailable("Too many are signing in at the moment; try again shortly.", code="too_busy")
    _hashes_waiting += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(_hashing, work)
    finally:
        _hashes_waiting -= 1


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a valid token says: whose it is, of which session, and until when it holds by this machine's clock."""

    user_id: UUID
    session_id: UUID
    expires_at: datetime


class InvalidToken(Exception):
    """The token is not one of ours, or it has run out."""


def issue_token(user_id: UUID, session_id: UUID, *, key: str, lifetime: timedelta) -> str:
    now = datetime.now(UTC)
    claims = {
        "sub": str(user_id),
        "sid": str(session_id),
        "iat": now,
        "exp": now + lifetime,
        "jti": str(uuid7()),
        "aud": AUDIENCE,
    }
    return jwt.encode(claims, key, algorithm=ALGORITHM)


def read_token(token: str, *, key: str) -> AccessToken:
    """The token's content, if its signature, audience, algorithm and time are right.

    Its times may be off by `LEEWAY`, since the machine that issued it has a clock of its own.

    Raises:
        InvalidToken: anything is wrong with it; the caller need not know what.
    """
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            leeway=LEEWAY,
            options={"require": REQUIRED_CLAIMS},
        )
        expires_at = datetime.fromtimestamp(claims["exp"], UTC)
        return AccessToken(UUID(claims["sub"]), UUID(claims["sid"]), _with_leeway(expires_at))
    except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise InvalidToken from error


def _with_leeway(expires_at: datetime) -> datetime:
    """When a token ends that was accepted. One that is past its end was accepted for the leeway alone."""
    return expires_at if expires_at > datetime.now(UTC) else expires_at + LEEWAY


def new_secret() -> str:
    """What nobody can guess: 256 random bits in 43 characters that fit into an address or a header."""
    return secrets.token_urlsafe(32)


def keyed_hash(content: bytes, *, key: str) -> str:
    """Tells whether two contents are the same, to nobody who lacks the key."""
    return hmac.digest(key.encode(), content, "sha256").hex()


def hash_secret(secret: str) -> str:
    """What is stored of a secret that HIVE has made.

    A fast hash without salt does: there is nothing to try out in 256 random bits, unlike in a password. Timing the
    look-up by it tells of a hash that nobody can steer, and nothing of the secret.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
