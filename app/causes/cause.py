from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a server can't be used, and what to do about it, in one sentence.

    `may_pass` says whether it may be over by itself, so that trying again makes sense.
    """

    sentence: str
    may_pass: bool = True


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it was raised from; the outermost comes first."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop(0)
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        inner = found.exceptions if isinstance(found, BaseExceptionGroup) else ()
        # SQLAlchemy keeps the adapter's error in `orig`, whose cause is the driver's.
        waiting += [getattr(found, "orig", None), found.__cause__, *inner]
        if found.__cause__ is None and not found.__suppress_context__:
            waiting.append(found.__context__)
