"""Codes that only a reader of the address's mail can know."""

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from app.core.security import keyed_hash

HOLDS = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a code says, which may be anybody's invention until `is_of` was asked."""

    user_id: UUID
    expires_at: int
    signature: str

    @classmethod
    def read(cls, code: str) -> "Confirmation | None":
        try:
            user_id, expires_at, signature = code.split(".")
            return cls(UUID(hex=user_id), int(expires_at, 16), signature)
        except ValueError:
            return None

    def is_of(self, address_key: str, *, key: str, now: datetime) -> bool:
        """Whether it was made for this address of the account, and holds yet."""
        made = _signature(self.user_id, address_key, self.expires_at, key=key)
        return hmac.compare_digest(made.encode(), self.signature.encode()) and now.timestamp() < self.expires_at


def make_confirmation(user_id: UUID, address_key: str, *, key: str, now: datetime) -> str:
    expires_at = int((now + HOLDS).timestamp())
    return f"{user_id.hex}.{expires_at:x}.{_signature(user_id, address_key, expires_at, key=key)}"


def _signature(user_id: UUID, address_key: str, expires_at: int, *, key: str) -> str:
    return keyed_hash(f"address {user_id} {expires_at} {address_key}".encode(), key=key)
