"""Which passwords are too easy to guess."""

from functools import cache
from importlib.resources import files

from app.core.errors import MalformedInput

MIN_PASSWORD_LENGTH = 10


class PasswordNamesAccount(MalformedInput):
    def __init__(self) -> None:
        super().__init__(
            "A password must not be one's own name or e-mail address.",
            field="password",
            where="body",
            code="password_names_account",
        )


@cache
def common_passwords() -> frozenset[str]:
    """The most frequent passwords that are long enough, in lower case.

    common_passwords.LICENSE says where they are from.
    """
    return frozenset(files("app.core").joinpath("common_passwords.txt").read_text("utf-8").splitlines())


def is_common(password: str) -> bool:
    return password.casefold() in common_passwords()


def refuse_own_names(password: str, *, addresses: tuple[str, ...], names: tuple[str, ...]) -> None:
    """Raises `PasswordNamesAccount` if the password is one of these, or the part of an address before the @."""
    own = {*addresses, *names, *(address.rpartition("@")[0] for address in addresses)}
    if _letters_of(password) in {_letters_of(name) for name in own if name}:
        raise PasswordNamesAccount


def _letters_of(text: str) -> str:
    """The text as it is compared: without regard to case and to what stands between its words."""
    return "".join(letter for letter in text.casefold() if letter.isalnum()) or text
