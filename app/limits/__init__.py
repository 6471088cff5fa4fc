"""How much one caller may ask for: failed sign-ins, and requests in all."""

from app.limits.limits import Limits

__all__ = ["Limits"]
