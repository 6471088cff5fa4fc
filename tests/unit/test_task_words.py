"""Texts of tasks are written through the model alone, which sets the words that they are found by."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import app
from app.models import Task

TEXTS = {"title", "description"}
SQL = re.compile(r"\b(?:UPDATE|INSERT\s+INTO|MERGE\s+INTO|COPY)\s+(?:ONLY\s+)?tasks\b", re.IGNORECASE)


def bypasses(source: str) -> list[str]:
    """The statements past the model that write texts of tasks, or of which one can't see what they write."""
    nodes = list(ast.walk(ast.parse(source)))
    values = {id(root): call for call in calls_of(nodes, "values") for root in chain_of(call)}
    statements = [call for name in ("update", "insert") for call in calls_of(nodes, name) if is_of_tasks(call)]
    found = [ast.unparse(each) for each in statements if id(each) not in values or writes_text(values[id(each)])]
    strings = [each.value for each in nodes if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return found + [each for each in strings if SQL.search(each) and any(text in each for text in TEXTS)]


def calls_of(nodes: Iterable[ast.AST], name: str) -> Iterator[ast.Call]:
    for call in nodes:
        if isinstance(call, ast.Call) and name in (getattr(call.func, "id", None), getattr(call.func, "attr", None)):
            yield call


def chain_of(call: ast.Call) -> Iterator[ast.Call]:
    """The calls that this one is a method of the result of: `update(Task)` of `update(Task).where(…).values(…)`."""
    while isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Call):
        call = call.func.value
        yield call


def is_of_tasks(call: ast.Call) -> bool:
    first = [*call.args, *(keyword.value for keyword in call.keywords)][:1]
    return bool(first) and re.match(r"Task\b|Task\.__table__|\w+\.Task\b", ast.unparse(first[0])) is not None


def writes_text(values: ast.Call) -> bool:
    return not (names := list(names_of(values))) or any(name is None or name in TEXTS for name in names)


def names_of(values: ast.Call) -> Iterator[str | None]:
    """The columns that are written; None for each that isn't named there."""
    yield from (keyword.arg for keyword in values.keywords)
    for given in values.args:
        for key in given.keys if isinstance(given, ast.Dict) else [None]:
            yield None if key is None else ast.unparse(key).strip("'").removeprefix("Task.")


@pytest.mark.parametrize("path", sorted(Path(app.__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_no_statement_writes_texts_past_the_model(path: Path) -> None:
    assert bypasses(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "update(Task).where(Task.id == id).values(title=new)",
        "sqlalchemy.update(models.Task).values({'description': new})",
        "update(Task).values({Task.title: new}).returning(Task)",
        "update(Task.__table__).values(**changes)",
        "insert(Task).values(changes)",
        "session.execute(update(Task), [{'id': 1, 'title': 'Roses'}])",
        "text('UPDATE tasks SET title = :title')",
        "text('insert into tasks (id, description) SELECT …')",
    ],
)
def test_a_statement_past_the_model_is_seen(source: str) -> None:
    assert len(bypasses(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "update(Task).values(status=TaskStatus.DRAFT)",
        "update(User).values(title=new)",
        "text('UPDATE tasks SET words = :words')",
    ],
)
def test_a_statement_that_writes_no_text_of_a_task_is_fine(source: str) -> None:
    assert bypasses(source) == []


def words_of_task(task: Task) -> set[str]:
    return set((task.words or "").replace("'", "").split())


def test_the_order_of_the_texts_makes_no_difference() -> None:
    assert words_of_task(Task(title="Für", description="Elise")) == {"fur", "elise"}
    assert words_of_task(Task(description="Elise", title="Für")) == {"fur", "elise"}


def test_a_description_that_is_emptied_leaves_no_words() -> None:
    task = Task(title="Roses", description="Twice a week")
    task.description = ""

    assert words_of_task(task) == {"roses"}


def test_an_empty_description_leaves_the_words_of_the_title() -> None:
    assert words_of_task(Task(title="Roses", description="")) == {"roses"}
    assert words_of_task(Task(description="", title="Roses")) == {"roses"}


def test_a_word_that_folding_makes_longer_is_cut() -> None:
    """Each of these is three letters to those who search."""
    assert words_of_task(Task(title="ﬃ" * 190)) == {("ffi" * 190)[:200]}
