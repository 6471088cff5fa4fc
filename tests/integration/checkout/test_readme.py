"""What README and docs say, tried: the tour line by line, and every command, link and setting by its name."""

import re
import subprocess
import sys
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from app import embedded
from app.cli import app as hive_command
from app.models import JobName, JobState, NotificationKind, Scope
from tests.conftest import RunningSystem
from tests.utils.test_utils import PATIENCE

ROOT = Path(__file__).resolve().parents[3]
README = ROOT / "README.md"
# One shell reads them in this order.
TOUR = [README, ROOT / "docs" / "api-access.md", ROOT / "docs" / "accounts.md"]
DOCS = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
ADDRESS = "127.0.0.1:8000"
END_OF_STEP = "--- end of step ---"

STEP = re.compile(r"^<!-- tour -->\n```sh\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.committed
@pytest.mark.usefixtures("sessions", "running_worker")
def test_the_tour_works_line_by_line(running_system: RunningSystem, hive_environment: dict[str, str]) -> None:
    steps_of = [STEP.findall(document.read_text()) for document in TOUR]
    assert [len(steps) for steps in steps_of] == [11, 3, 1]
    steps = list(chain.from_iterable(steps_of))
    address = running_system.address.removeprefix("http://").removesuffix("/api/v1")
    code = "".join(f"{code}echo '{END_OF_STEP}'\n" for code, _ in steps)
    code = code.replace(ADDRESS, address).replace(".venv/bin/", f"{Path(sys.executable).parent}/")

    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{code}"],
        env=hive_environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )

    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.split(f"{END_OF_STEP}\n")
    for (code, expected), output in zip(steps, said, strict=False):
        if expected:
            assert _without_seq(output) == _without_seq(expected), code


def _without_seq(text: str) -> str:
    """The text without the numbers of events, which depend on what was there before."""
    return re.sub(r"^([a-z]+\.[a-z_]+) \d+$", r"\1 N", text, flags=re.MULTILINE)


def test_the_second_command_of_the_readme_says_what_it_does() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert {"make run", "make test", "make bench", "make revision"} <= set(re.findall(r"make [a-z]+", shown))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_the_docs_exist(document: Path) -> None:
    text = document.read_text()
    targets = set(re.findall(r"^([a-z][a-z ]*?):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    known_targets = {target for line in targets for target in line.split()}
    known_commands = set(get_command(hive_command).commands)  # type: ignore[attr-defined]  # It's a group.

    assert set(re.findall(r"(?:`|^ {4}|[0-9] )make ([a-z]+)", text, re.MULTILINE)) <= known_targets
    assert set(re.findall(r"(?:poetry run |`|^ {4}|bin/)hive ([a-z]+)", text, re.MULTILINE)) <= known_commands
    for script in re.findall(r"poetry run python (\S+\.py)", text):
        assert (ROOT / script).is_file(), script


@pytest.mark.parametrize(("document", "group"), [("commands.md", None), ("accounts.md", "user"), ("jobs.md", "jobs")])
def test_each_command_of_hive_is_explained(document: str, group: str | None) -> None:
    command: Any = get_command(hive_command)
    commands = command.commands[group].commands if group else command.commands
    prefix = f"hive {group} " if group else "hive "

    text = (ROOT / "docs" / document).read_text()

    assert [name for name in commands if f"{prefix}{name}" not in text] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_in_the_docs_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", FENCE.sub("", document.read_text())):
        if not target.startswith(("http://", "https://", "#")):
            assert (document.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_named_in_the_docs_exist(document: Path) -> None:
    named = re.findall(r"`((?:app|tests|migrations|scripts|docs)/[\w/.]+\.(?:py|md|mako))`", document.read_text())
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_settings_are_in_the_docs_as_in_the_example() -> None:
    tables = (ROOT / "docs" / "settings.md").read_text()
    example = (ROOT / ".env.example").read_text()

    rows = re.findall(r"^\| `([A-Z_]+)` \| (?:`([^`]*)`)? ?\|", tables, re.MULTILINE)

    # tests/unit/test_config.py compares the example with the code.
    assert rows == re.findall(r"^([A-Z_]+)=(.*)$", example, re.MULTILINE)


@pytest.mark.parametrize(
    ("document", "section", "vocabulary"),
    [
        ("jobs.md", "The jobs there are", JobName),
        ("jobs.md", "Notifications", NotificationKind),
        ("jobs.md", "The life of a job", JobState),
        ("api-access.md", "API tokens", Scope),
    ],
)
def test_the_table_of_a_vocabulary_is_whole(document: str, section: str, vocabulary: type[StrEnum]) -> None:
    text = (ROOT / "docs" / document).read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]

    first_cells = re.findall(r"^\| (`[a-z_:]+`(?:, `[a-z_:]+`)*) \|", text, re.MULTILINE)

    assert sorted(re.findall(r"[a-z_:]+", " ".join(first_cells))) == sorted(vocabulary)


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_the_readme_leads_to_each_document(document: Path) -> None:
    assert f"](docs/{document.name})" in README.read_text()


def test_backup_and_restore_use_what_is_there() -> None:
    section = (ROOT / "docs" / "production.md").read_text().partition("\n## Backup\n")[2]
    [programs] = re.findall(r"BIN=\$\(echo \.venv/lib/python3\*/(\S+)\)", section)
    names = set(re.findall(r"\bembedded\.(\w+)", section))

    assert embedded.postgres_programs().match(programs)
    assert len(names) == 3
    assert [name for name in names if not hasattr(embedded, name)] == []
    assert (embedded.postgres_programs() / "pg_dump").is_file()


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_each_document_begins_with_whom_it_is_for(document: Path) -> None:
    if document.name != "architecture.md":
        assert re.match(r"# .+\n\nFor ", document.read_text())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_a_section_name_one_that_is_there(document: Path) -> None:
    for path, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", FENCE.sub("", document.read_text())):
        target = (document.parent / path).resolve() if path else document
        assert anchor in _anchors(target), f"{path}#{anchor}"


def _anchors(document: Path) -> set[str]:
    """Return the names that GitHub gives the document's headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_image_has_the_same_poetry() -> None:
    wanted = re.search(r"^POETRY_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert wanted is not None
    assert f"poetry=={wanted[1]}\n" in (ROOT / "Dockerfile").read_text()
