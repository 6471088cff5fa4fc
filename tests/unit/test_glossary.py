"""docs/glossary.md: each word once, with names that are in the code."""

import re
from pathlib import Path

from app.config import Settings

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
ROWS = [row for row in ROW.findall((ROOT / "docs" / "glossary.md").read_text()) if row[0] not in {"word", "---"}]


def test_the_glossary_has_no_word_twice() -> None:
    words = [word for word, _, _ in ROWS]

    assert len(words) > 50
    assert len(set(words)) == len(words)


def test_names_in_the_glossary_are_in_the_code() -> None:
    code = "".join(path.read_text() for path in (ROOT / "app").rglob("*.py"))
    known = set(re.findall(r"\w+", code)) | {name.upper() for name in Settings.model_fields}

    # `CloseCode.RESYNC` stands in its class as `RESYNC`; a path is looked for by test_readme.py.
    names = {part for *_, cell in ROWS for name in re.findall(r"`([^`/]+)`", cell) for part in name.split(".")}

    assert names - known == set()
