"""When the disk of the data folder is told to be nearly full."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.disk import warn_of_full_disk


@pytest.mark.parametrize(("used", "is_told"), [(79, False), (80, True), (100, True)])
def test_a_disk_is_told_from_80_percent_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used: int, is_told: bool
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=120, used=used, free=100 - used))

    told = warn_of_full_disk(tmp_path)

    assert (told is not None) is is_told
    assert not told or f"{used} %" in told


def test_a_folder_that_is_not_there_is_not_full(tmp_path: Path) -> None:
    assert warn_of_full_disk(tmp_path / "nowhere") is None
