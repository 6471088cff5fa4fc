"""What is known of a row: its object, and the values that it had when it was read or written."""

from copy import copy
from operator import is_

from sqlalchemy import ColumnElement
from sqlalchemy.orm import DeclarativeBase

from app.db.writes import Table

NO_VALUES: dict[str, object] = {}


class Known:
    """An object, and the values of its row when it was read or written last."""

    __slots__ = ("_before", "_contents", "row")

    def __init__(self, row: DeclarativeBase, table: Table) -> None:
        """The object has the values of its row now."""
        self.row = row
        self._before = before = dict(row.__dict__)
        # Of what can be changed in place, what it held.
        self._contents = {name: copy(before[name]) for name in table.collections if before.get(name) is not None}

    def changed(self, table: Table) -> dict[str, object]:
        """The values that were set since, by the names of their columns."""
        present, before = self.row.__dict__, self._before
        # Not `==`: an expression has no truth, and values that were neither set nor read anew are the same objects.
        is_same = len(present) == len(before) and all(map(is_, present.values(), before.values()))
        # What is the same object is a list or a mapping yet.
        if is_same and all(present[name] == held for name, held in self._contents.items()):
            return NO_VALUES
        before = before | self._contents
        changed = {
            name: present[name]
            for name in table.columns
            if name in present and (name not in before or _is_other(present[name], before[name]))
        }
        # What isn't read is made of what is, and its value before isn't known. It changes with others alone.
        return changed if any(name in before for name in changed) else NO_VALUES

    def restore(self) -> None:
        """Give the object the values that its row had."""
        for name, held in self._contents.items():
            # The next change in place must not be one of what is compared with.
            self._before[name] = copy(held)
        present = self.row.__dict__
        present.clear()
        present.update(self._before)


def _is_other(value: object, before: object) -> bool:
    # What an expression makes is known to the database alone.
    return value is not before and (isinstance(value, ColumnElement) or value != before)
