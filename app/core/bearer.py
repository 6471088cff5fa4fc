from starlette.types import Scope


def bearer_token(scope: Scope) -> str | None:
    """The token of a request, if it carries one. Whether it's a valid one is not known then."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            # There may be several spaces, and what signs in takes them off as well.
            return token.strip() if scheme.lower() == "bearer" else None
    return None
