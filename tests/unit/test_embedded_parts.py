"""The parts of the embedded servers that need no server."""

import os
from pathlib import Path

import pytest

from app import embedded
from app.embedded import charge as charges
from app.embedded import identity
from app.embedded.charge import Charge
from app.embedded.folder import LONGEST_SOCKET_PATH, Folder, rotate
from app.embedded.identity import Account
from app.embedded.process import Steps, last_words
from app.processes.supervisor import describe


def test_sockets_are_in_the_data_folder_as_long_as_their_paths_are_short() -> None:
    fixed = len("//run/.s.PGSQL.5432")
    longest = Folder(Path("/" + "x" * (LONGEST_SOCKET_PATH - fixed)))
    assert longest.runtime == longest.root / "run"
    assert len(str(longest.postgres_socket)) == LONGEST_SOCKET_PATH

    longer = Folder(Path(f"{longest.root}x"))
    assert longer.is_runtime_elsewhere
    assert longer.runtime.parent == Path("/tmp")
    assert longer.runtime.name.startswith(f"hive-{os.geteuid()}-")


@pytest.mark.parametrize("path", ["/a b", "/a:b", "/a?b", "/a%20b", "/a+b", "/ä", "/a,b"])
def test_a_path_that_a_url_would_change_holds_no_socket(path: str) -> None:
    assert Folder(Path(path)).is_runtime_elsewhere


def test_addresses_are_known_before_anything_runs(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    assert embedded.database_url(tmp_path) == f"postgresql://hive@/hive?host={folder.runtime}"
    assert embedded.redis_url(tmp_path) == f"unix://{folder.runtime}/valkey.sock"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (
            "starting\ninitdb: error: could not open x: Permission denied\nremoving y\n",
            "could not open x: Permission denied",
        ),
        (
            "2026-01-01 UTC [7] FATAL:  lock file exists\n2026-01-01 UTC [7] LOG:  shut down\n",
            "lock file exists",
        ),
        ("PANIC:  could not write: No space left on device\n", "the disk is full"),
        ("FATAL:  could not extend\nHINT:  Check free disk space.\n", "the disk is full"),
        (
            "7:M 01 Jan 2026 # Bad file format reading the append only file.\n\n",
            "7:M 01 Jan 2026 # Bad file format reading the append only file",
        ),
        ("", "it gave no reason"),
    ],
)
def test_the_reason_is_found_in_a_log(tmp_path: Path, lines: str, reason: str) -> None:
    log = tmp_path / "server.log"
    log.write_text("FATAL:  of yesterday\n" + lines)
    assert last_words(log, since=len("FATAL:  of yesterday\n")) == reason


def test_a_large_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.embedded.folder.LARGEST_LOG", 4)
    log = tmp_path / "server.log"
    for content in ("older\n", "newer\n"):
        log.write_text(content)
        rotate(log)
    assert not log.exists()
    assert (tmp_path / "server.log.1").read_text() == "newer\n"


def test_programs_in_a_closed_folder_are_copied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "SHELTERS", tmp_path / "shelters")
    site = tmp_path / "closed"
    binaries = site / "package" / "install" / "bin"
    for program in (
        binaries / "postgres",
        site / "package" / "install" / "include" / "x.h",
        site / "package.libs" / "libpq.so",
    ):
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(program.name)
    site.chmod(0o700)

    copy = Account(uid=65534, gid=65534).binaries(binaries)

    assert copy.is_relative_to(tmp_path / "shelters")
    assert (copy / "postgres").read_text() == "postgres"
    assert (copy.parents[2] / "package.libs" / "libpq.so").exists(), "found by the programs beside their package"
    assert not (copy.parent / "include").exists()
    assert Account(uid=65534, gid=65534).binaries(binaries) == copy
    assert [entry.name[:9] for entry in (tmp_path / "shelters").iterdir()] == ["programs-"]


@pytest.mark.parametrize(
    ("code", "text"), [(0, "exit code 0"), (78, "exit code 78"), (-9, "SIGKILL"), (-35, "signal 35")]
)
def test_an_exit_code_is_told_in_words(code: int, text: str) -> None:
    assert describe(code) == text


class MortalServer:
    """Is up at once, and dead whenever somebody looks."""

    name = "Mortal"
    is_running = False

    def start(self, program: str) -> Steps:
        assert program == "/program"
        return
        yield

    def stop(self) -> Steps:
        return
        yield


def test_a_server_that_keeps_dying_is_given_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    charge = Charge(MortalServer(), log=lambda _: None)
    charge.ask_for("/program")
    pauses: list[float] = []
    for _ in range(8):
        charge.proceed()
        assert charge.is_up
        charge.proceed()
        assert not charge.is_up
        assert charge.next_step_at is not None
        pauses.append(charge.next_step_at - now)
        now = charge.next_step_at
        charge.proceed()
    assert pauses == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]

    charge.proceed()
    now += charges.STEADY + 1
    charge.proceed()
    assert charge.next_step_at == now, "after a long life the next death is mended at once"
