"""A PostgreSQL cluster that is made and migrated once for all tests. Each system of its own begins with a copy."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from app import embedded
from app.migrate import migrate_database
from tests.conftest import SERVERS_FOLDER


def put_cluster(folder: Path) -> None:
    """Put a migrated cluster into a data folder whose servers haven't been started yet."""
    shutil.copytree(_prepared_cluster(), folder / "postgres")


def _prepared_cluster() -> Path:
    """The cluster that is copied. The first test process that needs it makes it, and others wait for it."""
    place = Path(os.environ[SERVERS_FOLDER], "prepared")
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            _make_cluster(place)
    return place


def _make_cluster(place: Path) -> None:
    # A short path, for the sockets of the servers lie in it.
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        embedded.join(folder, valkey=False, durable=False)
        try:
            migrate_database(embedded.database_url(folder))
        finally:
            embedded.leave(folder)
        cluster = Path(folder, "postgres").resolve()
        assert not (cluster / "postmaster.pid").exists(), "PostgreSQL has not ended properly"
        # It gets its name when it's whole: a failure on the way leaves nothing that looks finished.
        unfinished = place.with_suffix(".unfinished")
        shutil.copytree(cluster, unfinished, dirs_exist_ok=True)
        unfinished.rename(place)
