"""How many changes a second one API process makes, each with its event, beside pgbench with the same statements."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bench.ceilings.writes import ASSIGN, CREATE, OWNERS, STATUS, TASKS_OF_A_CLIENT, pgbench
from bench.extent import Extent
from bench.load.plan import Request, send
from bench.report.figures import Figure
from bench.rows import Rows, person_id, task_id
from bench.stage import Site, Stage
from bench.turns import Measure, Rate, in_turns, rate_figure, rate_under

GROUP = "writes"
GOAL = 0.35
NEW = {
    "description": "Twice a week, not in the sun. " * 7,
    "status": "available",
    "category": "greenhouse",
    "priority": "high",
    "impact_points": 3,
}


@dataclass(frozen=True, slots=True)
class Change:
    """`requests` are those of each connection in turn, for tasks from this number on."""

    name: str
    requests: Callable[[Site, int, int], list[Request]]
    script: str


def creations(site: Site, connections: int, _first: int) -> list[Request]:
    requests = []
    for number in range(connections * TASKS_OF_A_CLIENT):
        token = site.tokens[number // TASKS_OF_A_CLIENT % OWNERS]
        body = json.dumps({"title": f"Water the orchids {number}", **NEW}).encode()
        marker = f'"Water the orchids {number}"'
        requests.append(send("POST", "/api/v1/tasks", body, token=token, status=201, marker=marker))
    return requests


def steps(site: Site, connections: int, first: int) -> list[Request]:
    """Each connection starts all of its tasks, then gives all of them back."""
    return [
        _on_task(site, "PUT", "status", connection, number, {"status": status}, f'"{status}"')
        for connection in range(connections)
        for status in ("in_progress", "available")
        for number in _of_connection(connection, first)
    ]


def assignments(site: Site, connections: int, first: int) -> list[Request]:
    """Each connection gives all of its tasks to somebody, then to somebody else."""
    return [
        _on_task(
            site,
            "POST",
            "assign",
            connection,
            number,
            {"user_id": person_id(user)},
            f'"assignee_id":"{person_id(user)}"',
        )
        for connection in range(connections)
        for user in (connection % OWNERS + 1, connection % OWNERS + 2)
        for number in _of_connection(connection, first)
    ]


def _of_connection(connection: int, first: int) -> range:
    start = first + connection * TASKS_OF_A_CLIENT
    return range(start, start + TASKS_OF_A_CLIENT)


def _on_task(
    site: Site, method: str, what: str, connection: int, number: int, body: dict[str, str], marker: str
) -> Request:
    token = site.tokens[connection % OWNERS]
    path = f"/api/v1/tasks/{task_id(number)}/{what}"
    return send(method, path, json.dumps(body).encode(), token=token, marker=marker)


CHANGES = (
    Change("create", creations, CREATE),
    Change("status", steps, STATUS),
    Change("assign", assignments, ASSIGN),
)


class Writes:
    """Each turn has tasks of its own, so that it finds them as it expects them."""

    def __init__(self, site: Site, extent: Extent) -> None:
        self._site = site
        self._extent = extent
        self._block = extent.connections * TASKS_OF_A_CLIENT
        self._first = 0

    async def figures(self) -> list[Figure]:
        figures = []
        for change in CHANGES:
            measures: dict[str, Measure] = {
                f"{change.name} by pgbench": partial(self._by_pgbench, change),
                change.name: partial(self._by_hive, change),
            }
            rates = await in_turns(measures, self._extent.turns)
            ceiling = rates[f"{change.name} by pgbench"].per_second
            name = f"{change.name}, with its event"
            against = f"pgbench, {self._extent.connections} clients"
            figures.append(rate_figure(GROUP, name, rates[change.name], against=against, reference=ceiling, goal=GOAL))
        return figures

    async def _by_pgbench(self, change: Change, _turn: int) -> Rate:
        first = await self._next_block()
        url = self._site.database_url
        return await pgbench(
            change.script, url, clients=self._extent.connections, seconds=self._extent.seconds, first=first
        )

    async def _by_hive(self, change: Change, _turn: int) -> Rate:
        requests = change.requests(self._site, self._extent.connections, await self._next_block())
        return await rate_under(self._extent.load((self._site.api.port,), requests), self._site.api.pid)

    async def _next_block(self) -> int:
        first, self._first = self._first, self._first + self._block
        return first


async def writes(stage: Stage, extent: Extent) -> list[Figure]:
    async with stage.site(extent.middle) as site:
        blocks = 2 * len(CHANGES) * extent.turns
        await Rows(site.database_url).make_startable(
            blocks * extent.connections * TASKS_OF_A_CLIENT, owners=OWNERS, owned=TASKS_OF_A_CLIENT
        )
        return await Writes(site, extent).figures()
