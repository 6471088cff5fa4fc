"""Forms that make prose hard to read, and that nobody uses in the field, stay out of docs and docstrings.

They were common once, and they come back easily.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
# Code, and headings, which may well be half a question.
NO_PROSE = re.compile(r"^```(?s:.*?)^```$|^ {4}.*$|^#.*$", re.MULTILINE)

FORMS = {
    "whoever": re.compile(r"\b[Ww]ho(?:m|so|mso)?ever\b"),
    # "Who holds a task may …" for "The holder may …". Questions are no such sentences.
    "who": re.compile(r"(?:^|(?<=[.:;] )|(?<=\| )|(?<=- ))Who (?![^.?|]*\?)", re.MULTILINE),
    "holds no longer": re.compile(r"\bholds?\s+no\s+longer\b|,\s+or\s+no\s+longer\b"),
}
FORMS_OF_DOCSTRINGS = FORMS | {
    "the same": re.compile(r"\AThe same\b"),
    "have": re.compile(r"\AHave\b"),
}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_are_free_of_hard_forms(document: Path) -> None:
    prose = NO_PROSE.sub("", document.read_text())

    found = [_around(match) for form in FORMS.values() for match in form.finditer(prose)]

    assert found == []


def test_docstrings_are_free_of_hard_forms() -> None:
    found = [
        f"{place}: {form}: {_around(match)}"
        for place, text in _docstrings()
        for form, pattern in FORMS_OF_DOCSTRINGS.items()
        for match in pattern.finditer(text)
    ]

    assert found == []


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("whoever", "Tell whoever is there."),
        ("who", "It is taken. Who holds it knows that."),
        ("who", "| Who asks | is told |"),
        ("holds no longer", "The token is not valid, or no longer."),
        ("the same", "The same for jobs."),
        ("have", "Have a token hold no longer."),
    ],
)
def test_each_form_is_found(form: str, text: str) -> None:
    assert FORMS_OF_DOCSTRINGS[form].search(text)


@pytest.mark.parametrize(
    "text", ["Who may see it? The owner.", "Those who wait.", "It no longer waits.", "| Who is told? |"]
)
def test_plain_english_is_let_through(text: str) -> None:
    assert not any(form.search(text) for form in FORMS_OF_DOCSTRINGS.values())


def _docstrings() -> Iterator[tuple[str, str]]:
    for path in sorted(path for room in ("app", "bench", "tests") for path in (ROOT / room).rglob("*.py")):
        for node in _definitions(ast.parse(path.read_text())):
            yield str(path.relative_to(ROOT)), ast.get_docstring(node) or ""


def _definitions(node: ast.AST) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """The node, if it can have a docstring, and what is defined in it. An expression has none in it."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.stmt | ast.excepthandler):
            yield from _definitions(inner)


def _around(match: re.Match[str]) -> str:
    return " ".join(match.string[max(match.start() - 30, 0) : match.end() + 50].split())
