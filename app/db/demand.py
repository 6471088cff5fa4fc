"""Whether PostgreSQL has enough connections for all processes of HIVE that are connected to it.

The name of each connection says which process it belongs to, and how many that may have.
"""

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

import asyncpg

# What is kept for superusers and other roles is not for HIVE. A limit of -1 is none.
_AVAILABLE = """
    SELECT least(
        current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
          - coalesce(current_setting('reserved_connections', true)::int, 0),
        (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user),
        (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database())
    )
"""
_NAMES = """
    SELECT DISTINCT application_name FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'hive %'
"""
_NAME = re.compile(r"hive .+ [0-9a-f]{6}/(?P<most>\d+)")


@dataclass(frozen=True, slots=True)
class Demand:
    """How many connections processes of HIVE may want, and how many PostgreSQL gives HIVE's role."""

    wanted: int
    available: int

    @property
    def is_met(self) -> bool:
        return self.wanted <= self.available

    @property
    def sentence(self) -> str:
        told = f"HIVE's processes may want {self.wanted} connections, and PostgreSQL has {self.available} for them"
        if self.is_met:
            return told
        return f"{told}: raise max_connections (or the CONNECTION LIMIT), or lower DATABASE_POOL_SIZE."


def name_of_connections(application: str, most: int) -> str:
    """Return a name for the connections of one process, which may have `most` of them."""
    return f"hive {application} {secrets.token_hex(3)}/{most}"


def wanted_by(names: Iterable[str]) -> int:
    """Return how many connections the processes may want whose connections have these names."""
    return sum(int(found["most"]) for name in set(names) if (found := _NAME.fullmatch(name)))


async def find_demand(connection: asyncpg.Connection, *, further: int = 0) -> Demand:
    """Ask what the connected processes may want, with `further` for one that is about to start."""
    available = await connection.fetchval(_AVAILABLE)
    names = [name for (name,) in await connection.fetch(_NAMES)]
    return Demand(wanted_by(names) + further, available)
