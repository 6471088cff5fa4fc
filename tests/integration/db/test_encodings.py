"""Databases in another encoding than UTF-8: every way in refuses them with a sentence."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from app import embedded
from app.config import ConfigurationError
from app.db.encoding import refuse_other_encodings
from app.migrate import MigrationError, create_missing_database, migrate_database
from app.revisions import is_at_newest_revision
from tests.conftest import ROOT
from tests.utils.databases import run_sql
from tests.utils.processes import free_port, run_program

ENCODINGS = ["SQL_ASCII", "LATIN1"]


@pytest.fixture(params=ENCODINGS)
async def url(servers: str, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """An empty database in that encoding."""
    server, name = embedded.database_url(servers), f"test_{uuid4().hex}"
    locale = "TEMPLATE template0 LOCALE_PROVIDER libc LOCALE 'C'"
    await run_sql(server, f"CREATE DATABASE {name} ENCODING '{request.param}' {locale}")
    yield server.replace("/hive?", f"/{name}?")
    await run_sql(server, f"DROP DATABASE {name} WITH (FORCE)")


COMMANDS = {
    "hive migrate": ["-m", "app.cli", "migrate"],
    "hive run": ["-m", "app.cli", "run"],
    "hive api": ["-m", "app.cli", "api"],
    "hive relay": ["-m", "app.cli", "relay"],
    "hive worker": ["-m", "app.cli", "worker"],
    "hive scheduler": ["-m", "app.cli", "scheduler"],
    "hive user": ["-m", "app.cli", "user", "create", "ada@example.org"],
    "hive doctor": ["-m", "app.cli", "doctor"],
    "alembic": ["-m", "alembic", "upgrade", "head"],
    "scripts/init_db.py": [str(ROOT / "scripts/init_db.py")],
    "scripts/run_migrations.py": [str(ROOT / "scripts/run_migrations.py")],
}


def run(command: list[str], url: str, redis_url: str, folder: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": url,
        "REDIS_URL": redis_url,
        "HIVE_DATA_DIR": folder,
        "PORT": str(free_port()),
    }
    return run_program(command, environment, cwd=ROOT, text="a long enough password\n")


@pytest.mark.parametrize("url", ["SQL_ASCII"], indirect=True)
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_refuses_another_encoding_in_a_sentence(
    command: list[str], url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ended = run(command, url, redis_url, str(tmp_path_factory.mktemp("data")))

    told = ended.stdout + ended.stderr
    assert ended.returncode != 0, told
    assert "encoding is SQL_ASCII, and HIVE needs UTF8" in told
    assert "Traceback" not in told


async def test_migration_of_another_encoding_changes_nothing(url: str) -> None:
    with pytest.raises(MigrationError, match=r"encoding is (SQL_ASCII|LATIN1), and HIVE needs UTF8"):
        await asyncio.to_thread(migrate_database, url)

    assert await run_sql(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    assert not await is_at_newest_revision(url)


async def test_other_encoding_is_refused_and_a_database_out_of_reach_is_not(url: str) -> None:
    with pytest.raises(ConfigurationError, match="HIVE needs UTF8"):
        await refuse_other_encodings(url)
    await refuse_other_encodings("postgresql://hive@/hive?host=/nowhere/at-all")


@pytest.mark.parametrize("url", ["SQL_ASCII"], indirect=True)
async def test_missing_database_is_made_in_utf8_whatever_the_template(url: str) -> None:
    missing = url.replace("/test_", "/missing_")
    name = missing.partition("?")[0].rpartition("/")[2]

    await create_missing_database(missing)

    connection = await asyncpg.connect(missing)
    assert connection.get_settings().server_encoding == "UTF8"
    await connection.close()
    await run_sql(url, f"DROP DATABASE {name}")
