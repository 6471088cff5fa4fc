"""The way to PostgreSQL: addresses as providers write them, transactions, and the lock that only one can hold."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest

from app.db.dsn import LIBPQ_CLIENT_OPTIONS, asyncpg_dsn
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql://u:p@host:5432/hive", "postgresql://u:p@host:5432/hive"),
        ("postgres://u:p@host/hive", "postgresql://u:p@host/hive"),
        ("postgresql+asyncpg://u:p@host/hive", "postgresql://u:p@host/hive"),
        ("postgresql+psycopg2://u:p@host/hive", "postgresql://u:p@host/hive"),
        ("postgresql://u:p%40ss%2Fword@host/hive", "postgresql://u:p%40ss%2Fword@host/hive"),
        ("postgresql://u@[::1]:5433/hive", "postgresql://u@[::1]:5433/hive"),
        ("postgresql://u@one:5432,two:5433/hive", "postgresql://u@one:5432,two:5433/hive"),
        # Python writes an empty host so, and the driver reads it as it was meant.
        ("postgresql:///hive?host=/run/postgresql", "postgresql:/hive?host=%2Frun%2Fpostgresql"),
        ("postgresql://u@/hive?host=/run/pg&port=5433", "postgresql://u@/hive?host=%2Frun%2Fpg&port=5433"),
        ("postgresql://u:p@host/hive?sslmode=require", "postgresql://u:p@host/hive?sslmode=require"),
        (
            "postgresql://u:p@ep.neon.example/hive?sslmode=require&channel_binding=require",
            "postgresql://u:p@ep.neon.example/hive?sslmode=require",
        ),
        (
            "postgres://u:p@host/hive?sslmode=verify-full&sslrootcert=/etc/ca.pem&connect_timeout=10",
            "postgresql://u:p@host/hive?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem",
        ),
        (
            "postgresql://u@host/hive?target_session_attrs=read-write",
            "postgresql://u@host/hive?target_session_attrs=read-write",
        ),
        ("postgresql://host", "postgresql://host"),
    ],
)
def test_an_address_is_brought_into_the_drivers_form(given: str, expected: str) -> None:
    assert asyncpg_dsn(given) == expected


@pytest.mark.parametrize("option", sorted(LIBPQ_CLIENT_OPTIONS))
def test_what_only_libpq_understands_is_left_out(option: str) -> None:
    found = parse_qs(urlsplit(asyncpg_dsn(f"postgresql://h/d?{option}=1&sslmode=prefer")).query)

    assert found == {"sslmode": ["prefer"]}


@pytest.mark.parametrize(
    "url",
    ["", "hive", "mysql://u:hunter2@host/hive", "sqlite:///hive.db", "http://host", "postgresqlx://u:hunter2@h/d"],
)
def test_another_kind_of_database_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"must begin with postgresql://") as refused:
        asyncpg_dsn(url)

    assert "hunter2" not in str(refused.value)


def test_nobody_else_commits_or_rolls_back() -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "app").rglob("*.py")
        if re.search(r"\.(commit|rollback)\(", path.read_text())
    }

    assert found == {"app/db/pool.py", "app/db/transaction.py"}
