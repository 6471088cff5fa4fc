"""The harness itself: what it kills is dead, comes back, and leaves nothing behind."""

from pathlib import Path

import pytest

from app.embedded.process import process_ids
from tests.reliability.scale import Report
from tests.reliability.system import ChaosSystem

pytestmark = pytest.mark.reliability


async def test_a_system_is_damaged_mended_and_cleared_away(report: Report) -> None:
    async with ChaosSystem(apis=1, relays=2, workers=1, schedulers=1) as system:
        user = await system.user("Ada")
        postgres = system.kill_postgres()
        valkey = system.kill_valkey()
        system.apis[0].restart()
        (await system.active_relay()).kill()
        await system.until_postgres_is_back(postgres)
        await system.until_valkey_is_back(valkey)
        await system.apis[0].until_ready()
        await system.active_relay()

        async with system.client(user) as http:
            assert (await http.post("/tasks", json={"title": "Water the orchids"})).status_code == 201
        assert [row["title"] for row in await system.sql("SELECT title FROM tasks")] == ["Water the orchids"]
        pids = [part.process.pid for part in [*system.apis, *system.relays, *system.workers, *system.schedulers]]

    assert not system.folder.exists()
    assert not set(pids) & set(process_ids())
    assert not [pid for pid in process_ids() if str(system.folder) in _command_of(pid)]
    report.add("processes started", len(pids))


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
