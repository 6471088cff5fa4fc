"""Migrations: up, down and up again with rows, no drift, once however many processes begin."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import pytest
from alembic import command
from alembic.script import ScriptDirectory

from app.core.addresses import address_key
from app.core.permissions import Actor
from app.database import Database
from app.migrate import MigrationError, alembic_config, create_missing_database, migrate_database
from app.models import TaskStatus
from app.revisions import is_at_newest_revision, newest_revision
from app.schemas.task import TaskCreate
from app.search_words import MAX_WORD_LENGTH
from app.services import BlockerService, ClaimService, TaskService
from tests.builders.agents import create_agent
from tests.builders.tokens import create_token
from tests.builders.users import create_user
from tests.conftest import ROOT
from tests.utils.databases import new_database, run_sql
from tests.utils.test_utils import PATIENCE


@pytest.fixture
async def url(servers: str) -> AsyncIterator[str]:
    """An empty database."""
    async with new_database(servers) as url:
        yield url


async def fill(url: str) -> None:
    """A row in every table, made by the services."""
    database = Database.connect(url, application="tests")
    async with database.unit_of_work() as session:
        user = await create_user(session)
        await create_token(session, await create_agent(session, owner=user))
    async with database.unit_of_work() as session:
        actor = Actor.of(user)
        task = await TaskService(session).create(actor, TaskCreate(title="Kept", status=TaskStatus.AVAILABLE))
        await ClaimService(session).claim(actor, task.id)
        await TaskService(session).change_status(actor, task.id, TaskStatus.COMPLETED)
        waiting = await TaskService(session).create(actor, TaskCreate(title="Waits"))
        await BlockerService(session).add(actor, waiting.id, task.id)
        done = await TaskService(session).create(actor, TaskCreate(title="Deleted", status=TaskStatus.AVAILABLE))
        await ClaimService(session).claim(actor, done.id)
        await TaskService(session).change_status(actor, done.id, TaskStatus.COMPLETED)
        await TaskService(session).delete(actor, done.id)
    await database.close()


async def test_every_revision_goes_up_down_and_up_again_on_a_database_with_rows(url: str) -> None:
    revisions = [script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()]
    await asyncio.to_thread(migrate_database, url)
    await fill(url)

    for _ in revisions:
        await asyncio.to_thread(command.downgrade, alembic_config(url), "-1")
    assert await run_sql(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 1
    for revision in reversed(revisions):
        await asyncio.to_thread(command.upgrade, alembic_config(url), revision)

    assert await run_sql(url, "SELECT version_num FROM alembic_version") == newest_revision()
    await fill(url)


async def add_accounts(url: str, *addresses: str) -> None:
    connection = await asyncpg.connect(url)
    for address in addresses:
        statement = "INSERT INTO users (id, email, display_name, password_hash) VALUES (gen_random_uuid(), $1, 'A', '')"
        await connection.execute(statement, address)
    await connection.close()


async def test_migration_fills_in_the_keys_of_addresses(url: str) -> None:
    await asyncio.to_thread(command.upgrade, alembic_config(url), "0014")
    await add_accounts(url, "Ada@example.org", "Grace.HOPPER@example.org")

    await asyncio.to_thread(migrate_database, url)

    keys = await run_sql(url, "SELECT array_agg(email_key ORDER BY email) FROM users")
    assert keys == [address_key("Ada@example.org"), address_key("Grace.HOPPER@example.org")]


async def test_migration_names_accounts_of_one_address_and_changes_nothing(url: str) -> None:
    await asyncio.to_thread(command.upgrade, alembic_config(url), "0014")
    # As a database with a Turkish locale has it, whose lower() makes them two.
    await run_sql(url, "DROP INDEX uq_users_email_lower")
    await run_sql(url, "CREATE UNIQUE INDEX uq_users_email_lower ON users (email)")
    await add_accounts(url, "ADAI@example.org", "adai@example.org", "grace@example.org")

    with pytest.raises(MigrationError) as refused:
        await asyncio.to_thread(migrate_database, url)

    sentence = str(refused.value)
    assert "ADAI@example.org and adai@example.org" in sentence
    assert "grace" not in sentence
    assert "\n" not in sentence
    assert await run_sql(url, "SELECT version_num FROM alembic_version") == "0014"
    await run_sql(url, "UPDATE users SET email = 'other@example.org' WHERE email = 'ADAI@example.org'")
    await asyncio.to_thread(migrate_database, url)
    assert await run_sql(url, "SELECT count(email_key) FROM users") == 3


async def test_tasks_that_were_there_get_the_words_they_are_found_by(url: str) -> None:
    """Also when an earlier try was cut off and has left an index that is of no use."""
    await asyncio.to_thread(migrate_database, url)
    await fill(url)
    await asyncio.to_thread(command.downgrade, alembic_config(url), "0020")
    await run_sql(
        url, "UPDATE tasks SET title = 'Rosen gießen', description = '東京 ' || repeat('x', 9000), words = NULL"
    )
    before = await run_sql(url, "SELECT jsonb_agg(to_jsonb(tasks) - 'words' ORDER BY id) FROM tasks")
    await run_sql(url, "CREATE INDEX ix_tasks_words ON tasks (words)")

    await asyncio.to_thread(migrate_database, url)

    words = f"'giessen' 'rosen' '{'x' * MAX_WORD_LENGTH}' '京' '東京'"
    assert await run_sql(url, "SELECT string_agg(DISTINCT words::text, '|') FROM tasks") == words
    assert await run_sql(url, "SELECT jsonb_agg(to_jsonb(tasks) - 'words' ORDER BY id) FROM tasks") == before
    indexes = "SELECT string_agg(indexdef, ' ' ORDER BY indexname) FROM pg_indexes WHERE indexdef LIKE '%words%'"
    assert str(await run_sql(url, indexes)).count("USING gin (words)") == 1


async def test_tasks_that_an_old_process_changed_meanwhile_get_their_words_anew(url: str) -> None:
    await asyncio.to_thread(migrate_database, url)
    await fill(url)
    await asyncio.to_thread(command.downgrade, alembic_config(url), "0021")
    await run_sql(url, "UPDATE tasks SET title = 'Given back', version = version + 1 WHERE title = 'Kept'")

    await asyncio.to_thread(migrate_database, url)

    assert await run_sql(url, "SELECT array_agg(title) FROM tasks WHERE words IS NULL") == ["Given back"]


def test_the_newest_revision_is_the_one_that_alembic_names() -> None:
    assert [newest_revision()] == ScriptDirectory.from_config(alembic_config()).get_heads()


async def test_a_database_is_at_the_newest_revision_when_no_step_is_left(url: str) -> None:
    assert not await is_at_newest_revision(url)

    await asyncio.to_thread(migrate_database, url)
    assert await is_at_newest_revision(url)

    await asyncio.to_thread(command.downgrade, alembic_config(url), "-1")
    assert not await is_at_newest_revision(url)
    assert not await is_at_newest_revision("postgresql://hive@/hive?host=/nowhere/at-all")


async def test_the_models_and_the_migrations_say_the_same(url: str) -> None:
    await asyncio.to_thread(migrate_database, url)

    await asyncio.to_thread(command.check, alembic_config(url))


async def test_processes_that_migrate_at_once_do_it_once(url: str) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "DATABASE_URL": url, "ENVIRONMENT": "test"}
    environment |= {"SECRET_KEY": "s" * 40, "JWT_SECRET_KEY": "j" * 40, "REDIS_URL": "redis://127.0.0.1:1"}

    def run_migrations(_: int) -> subprocess.CompletedProcess[str]:
        script = [sys.executable, str(ROOT / "scripts/run_migrations.py")]
        return subprocess.run(script, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)

    with ThreadPoolExecutor(4) as pool:
        runs = await asyncio.to_thread(lambda: list(pool.map(run_migrations, range(4))))

    assert [run.returncode for run in runs] == [0] * 4, [run.stderr for run in runs]
    assert await run_sql(url, "SELECT count(*) FROM event_log") == 1


async def test_a_revision_waits_seconds_for_a_lock_and_not_for_ever(url: str) -> None:
    await asyncio.to_thread(migrate_database, url)
    connection = await asyncpg.connect(url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("LOCK TABLE user_task_associations IN ACCESS SHARE MODE")

    config = alembic_config(url)
    config.attributes["lock_patience_seconds"] = 0.0
    with pytest.raises(Exception, match="lock timeout"):
        await asyncio.to_thread(command.downgrade, config, "base")

    await transaction.rollback()
    await connection.close()
    # Each revision is taken back by itself; the first one, which needs the lock, is still there and whole.
    assert await run_sql(url, "SELECT version_num FROM alembic_version") == "0001"
    assert await run_sql(url, "SELECT count(*) FROM user_task_associations") == 0


async def test_a_missing_database_is_made(url: str) -> None:
    missing = url + "&application_name=x"
    missing = missing.replace("/test_", "/Missing-")
    name = missing.partition("?")[0].rpartition("/")[2]

    await create_missing_database(missing)
    await create_missing_database(missing)

    assert await run_sql(missing, "SELECT current_database()") == name
    await run_sql(url, f'DROP DATABASE "{name}"')


async def test_a_server_that_is_not_there_is_told_in_a_sentence() -> None:
    nowhere = "postgresql://hive@/hive?host=/nowhere/at-all"

    with pytest.raises(MigrationError, match=r"^The database can't be migrated: The socket in DATABASE_URL "):
        await asyncio.to_thread(migrate_database, nowhere)
    with pytest.raises(MigrationError, match=r"^The database can't be made: "):
        await create_missing_database(nowhere)


@pytest.mark.parametrize("script", ["init_db", "run_migrations"])
@pytest.mark.parametrize("arguments", [["generate", "Add labels"], ["--help"], ["upgrade"]])
async def test_a_script_refuses_arguments_and_migrates_nothing(url: str, script: str, arguments: list[str]) -> None:
    command = [sys.executable, str(ROOT / f"scripts/{script}.py"), *arguments]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "DATABASE_URL": url}

    done = await asyncio.to_thread(
        lambda: subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{script}: there is no argument '{arguments[0]}';")
    assert done.stderr.count("\n") == 1
    assert await run_sql(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
