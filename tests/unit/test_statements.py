"""Statements that are compiled once."""

import gc

from sqlalchemy import bindparam, select

from app.db import statements
from app.db.statements import keep, sql_of
from app.models import Task


def test_a_kept_statement_is_compiled_once_and_for_as_long_as_it_is_there() -> None:
    gc.collect()
    before = len(statements._MADE)
    statement = keep(select(Task).where(Task.id == bindparam("task_id")))
    assert sql_of(statement) is sql_of(statement)
    assert len(statements._MADE) == before + 1

    del statement
    gc.collect()

    assert len(statements._MADE) == before


def test_another_statement_is_compiled_for_each_use() -> None:
    statement = select(Task).where(Task.id == bindparam("task_id"))

    assert sql_of(statement) is not sql_of(statement)
