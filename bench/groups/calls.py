"""What else bears on how many requests an API answers: people who sign in meanwhile, and a second process."""

import asyncio
import json
from dataclasses import replace

from bench.extent import Extent
from bench.load.plan import Load, Request, get, send
from bench.load.programs import put_under
from bench.people import PASSWORD
from bench.processes import Listening
from bench.report.figures import Better, Figure
from bench.rows import PEOPLE, email_of, is_draft, task_id
from bench.stage import Site, Stage
from bench.turns import Measure, Rate, in_turns, rate_figure, rate_under

SIGNING_IN = 16
# The load generator and two API processes share two cores; so it doesn't take from them what it can do without.
NICENESS = 10


def tasks_of(site: Site, count: int) -> list[Request]:
    """Requests of single tasks, spread over all of them."""
    numbers = [number for number in range(0, site.tasks, max(site.tasks // count, 1)) if not is_draft(number)]
    return [
        get(f"/api/v1/tasks/{task_id(n)}", token=site.tokens[at % len(site.tokens)], marker=f'"{task_id(n)}"')
        for at, n in enumerate(numbers)
    ]


async def sign_ins(stage: Stage, extent: Extent) -> list[Figure]:
    """Each with the right password, for wrong ones are refused without looking after the first few."""
    flood = [
        send(
            "POST",
            "/api/v1/auth/login",
            json.dumps({"email": email_of(number), "password": PASSWORD}).encode(),
            marker='"access_token"',
        )
        for number in range(PEOPLE)
    ]
    counted: list[float] = []

    async with stage.site(extent.middle) as site:
        load = extent.load((site.api.port,), tasks_of(site, extent.ids))
        signing_in = replace(load, requests=flood, connections=min(SIGNING_IN, extent.connections))

        async def calm(_turn: int) -> Rate:
            return await rate_under(load, site.api.pid)

        async def flooded(_turn: int) -> Rate:
            rate, answers = await asyncio.gather(rate_under(load, site.api.pid), put_under(signing_in))
            counted.append(answers.per_second)
            return rate

        measures: dict[str, Measure] = {"task by id": calm, "task by id while many sign in": flooded}
        rates = await in_turns(measures, extent.turns)
    idle = rates["task by id"].per_second
    name = "task by id during a flood of sign-ins"
    return [
        rate_figure(
            "sign-ins", name, rates["task by id while many sign in"], against="idle", reference=idle, goal=0.75
        ),
        Figure("sign-ins", "sign-ins of the flood", "/s", sum(counted) / len(counted), Better.MORE),
    ]


async def two_processes(stage: Stage, extent: Extent) -> list[Figure]:
    async with stage.site(extent.middle) as site, stage.further_api(site.database_url) as second:
        load = replace(extent.load((), tasks_of(site, extent.ids)), niceness=NICENESS)

        def at(*apis: Listening) -> Measure:
            there: Load = replace(load, ports=[api.port for api in apis])

            async def measure(_turn: int) -> Rate:
                return await rate_under(there, *(api.pid for api in apis))

            return measure

        rates = await in_turns({"one API process": at(site.api), "two": at(site.api, second)}, extent.turns)
    one = rates["one API process"].per_second
    name = "task by id by two API processes"
    return [rate_figure("processes", name, rates["two"], against="one API process", reference=one, goal=1.5)]
