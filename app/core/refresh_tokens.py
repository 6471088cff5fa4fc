"""Refresh tokens, without a database: how one is made, how the next follows from it, what is stored of it."""

import hmac
from base64 import urlsafe_b64encode
from dataclasses import dataclass

from app.core.security import hash_secret, new_secret

HALF = 43


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """Two secrets: `family` is common to all tokens of a session, `turn` is this one's own."""

    family: str
    turn: str

    @classmethod
    def new(cls) -> "RefreshToken":
        return cls(new_secret(), new_secret())

    @classmethod
    def read(cls, text: str) -> "RefreshToken | None":
        """None for what none can be."""
        return cls(text[:HALF], text[HALF:]) if len(text) == 2 * HALF and text.isascii() else None

    @property
    def text(self) -> str:
        return self.family + self.turn

    @property
    def hash(self) -> str:
        return hash_secret(self.text)

    @property
    def family_hash(self) -> str:
        return hash_secret(self.family)

    def is_hashed_as(self, stored: str | None) -> bool:
        return stored is not None and hmac.compare_digest(self.hash, stored)

    def following(self, key: str) -> "RefreshToken":
        """The next token of the session.

        It follows from this one and the server's key, so that who asks twice, because the answer was lost, is given the
        same one; nobody has to keep it for that. Without the key it's as good as random.
        """
        digest = hmac.digest(key.encode(), b"hive refresh " + self.text.encode(), "sha256")
        return RefreshToken(self.family, urlsafe_b64encode(digest).rstrip(b"=").decode())
