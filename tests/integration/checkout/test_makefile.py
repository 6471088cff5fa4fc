"""Which Python `make` installs HIVE with. The installation itself is what each checkout begins with."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.utils.test_utils import PATIENCE

INTERPRETER = os.path.realpath(sys._base_executable)  # type: ignore[attr-defined]  # It is not documented, and venv relies on it.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "Makefile", tmp_path)
    return tmp_path


def make(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def script(folder: Path, *lines: str) -> Path:
    path = folder / "python"
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def test_the_python_that_was_asked_for_is_kept(folder: Path) -> None:
    assert make(folder, ".python", f"PYTHON={sys.executable}").returncode == 0
    assert (folder / ".python").read_text().strip() == INTERPRETER

    assert INTERPRETER in make(folder, "--dry-run", ".poetry/ready").stdout


def test_another_python_has_both_environments_made_anew(folder: Path) -> None:
    assert make(folder, ".python", f"PYTHON={sys.executable}").returncode == 0
    for stamp in (".poetry/ready", ".venv/ready"):
        (folder / stamp).parent.mkdir()
        (folder / stamp).touch()
    for name in ("pyproject.toml", "poetry.lock"):
        (folder / name).touch()
        os.utime(folder / name, (0, 0))
    assert "Installing" not in make(folder, "install", f"PYTHON={sys.executable}").stdout

    (folder / ".python").write_text("/another/python3\n")
    os.utime(folder / ".python", (0, 0))

    # `--dry-run` would not look which one it is.
    assert make(folder, ".python", f"PYTHON={sys.executable}").returncode == 0
    planned = make(folder, "--dry-run", "install").stdout
    assert f'"{INTERPRETER}" -m venv .poetry' in planned
    assert f'"{INTERPRETER}" -m venv .venv' in planned


@pytest.mark.parametrize("kind", ["a name", "a path", "a shim without a version behind it"])
def test_a_python_that_is_not_there_is_told_in_a_sentence(folder: Path, kind: str) -> None:
    shim = script(folder, "echo pyenv: not found >&2", "exit 127")
    python = {"a name": "python3.99", "a path": "/nowhere/python3"}.get(kind, str(shim))
    ended = make(folder, "install", f"PYTHON={python}")
    assert ended.returncode != 0
    assert ended.stderr.startswith(f"There is no {python} on this machine.")
    assert not (folder / ".python").exists()


def test_a_python_that_is_too_old_is_told_in_a_sentence(folder: Path) -> None:
    old = script(folder, 'test "$2" = ""')
    ended = make(folder, "install", f"PYTHON={old}")
    assert ended.returncode != 0
    assert ended.stderr.startswith(f"HIVE needs Python 3.11 or newer; {old} is not.")
