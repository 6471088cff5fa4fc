"""How many tasks and lists a second one API process gives, beside bare Starlette; and how that changes with the number
of tasks, with the page, and after many changes.
"""

import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import cycle

import httpx2

from bench.extent import Extent
from bench.load.plan import Request, get
from bench.processes import Listening
from bench.progress import tell
from bench.report.figures import Better, Figure
from bench.rows import Rows, is_draft, person_id, task_id
from bench.stage import Site, Stage
from bench.turns import Calls, Measure, Rate, in_turns, rate_figure

GROUP = "reads"
PAGE_SIZE = 50
# Each row of a list has this once, and nothing else in it does.
OF_A_ROW = '"impact_points"'
BARE = "Starlette, asyncpg and msgspec"
AVAILABLE = "/api/v1/tasks?status=available"


class Reads:
    def __init__(self, stage: Stage, extent: Extent) -> None:
        self._stage = stage
        self._extent = extent

    async def figures(self) -> list[Figure]:
        async with AsyncExitStack() as stack:
            sites = {size: await stack.enter_async_context(self._stage.site(size)) for size in self._sizes()}
            changed = await stack.enter_async_context(self._stage.site(self._extent.middle))
            middle = sites[self._extent.middle]
            bare = await stack.enter_async_context(self._stage.ceiling("bare_api", middle.database_url))
            measures = {**await self._of_the_middle(middle, bare, changed), **self._of_the_ends(sites)}
            rates = await in_turns(measures, self._extent.turns)
        return [*self._against_the_ceiling(rates), *self._of_pages_and_updates(rates), *self._of_sizes(rates)]

    def _sizes(self) -> list[int]:
        return [*self._ends(), self._extent.middle]

    def _ends(self) -> list[int]:
        return [self._extent.small, *([self._extent.large] if self._extent.large else [])]

    async def _of_the_middle(self, site: Site, bare: Listening, changed: Site) -> dict[str, Measure]:
        """Each beside what it's held against."""
        numbers = self._visible(site.tasks)
        bare_ids = [get(f"/task?id={task_id(number)}", marker=f'"{task_id(number)}"') for number in numbers]
        bare_lists = [get(f"/tasks?as={person_id(each)}", marker=OF_A_ROW, count=PAGE_SIZE) for each in range(8)]
        await require_same_answers(site, bare, numbers[0])
        page = await page_address(site, self._extent.page)
        return {
            "bare task": self._calls(bare, bare_ids),
            f"task of {site.tasks}": self._tasks(site),
            "bare list": self._calls(bare, bare_lists),
            f"list of {site.tasks}": self._lists("/api/v1/tasks", site),
            "page": self._calls(site.api, [self._list(page, site.tokens[0])]),
            "list after updates": self._after_updates("/api/v1/tasks", changed),
            "available": self._lists(AVAILABLE, site),
            "available after updates": self._after_updates(AVAILABLE, changed),
        }

    def _of_the_ends(self, sites: Mapping[int, Site]) -> dict[str, Measure]:
        """Fewest and most tasks, side by side."""
        ends = [sites[size] for size in self._ends()]
        return {
            **{f"task of {site.tasks}": self._tasks(site) for site in ends},
            **{f"list of {site.tasks}": self._lists("/api/v1/tasks", site) for site in ends},
            **{f"available of {site.tasks}": self._lists(AVAILABLE, site) for site in ends},
            **{f"dashboard of {site.tasks}": self._dashboard(site) for site in ends},
        }

    def _tasks(self, site: Site) -> Measure:
        tokens = cycle(site.tokens)
        ids = map(task_id, self._visible(site.tasks))
        return self._calls(
            site.api, [get(f"/api/v1/tasks/{id_}", token=next(tokens), marker=f'"{id_}"') for id_ in ids]
        )

    def _dashboard(self, site: Site) -> Measure:
        """Few tasks are counted each time, a million not oftener than the database can bear."""
        return self._calls(site.api, [get("/api/v1/dashboard/summary", marker=f'"total":{site.tasks},"by_status"')])

    def _after_updates(self, path: str, site: Site) -> Measure:
        """Each turn has changes just before: what they leave in the indexes is cleared away by and by."""
        calls = self._lists(path, site)

        async def after_updates(turn: int) -> Rate:
            await Rows(site.database_url).change_statuses(self._extent.updates, tasks=site.tasks)
            return await calls(turn)

        return after_updates

    def _visible(self, tasks: int) -> list[int]:
        """Numbers of tasks that everybody sees, by chance and the same in each run."""
        chance = random.Random(1)
        numbers = (chance.randrange(tasks) for _ in range(2 * self._extent.ids))
        return [number for number in numbers if not is_draft(number)][: self._extent.ids]

    def _calls(self, server: Listening, requests: Sequence[Request]) -> Calls:
        return Calls(server, requests, self._extent)

    def _lists(self, path: str, site: Site) -> Measure:
        return self._calls(site.api, [self._list(path, token) for token in site.tokens])

    def _list(self, path: str, token: str) -> Request:
        return get(path, token=token, marker=OF_A_ROW, count=PAGE_SIZE)

    def _against_the_ceiling(self, rates: dict[str, Rate]) -> list[Figure]:
        size = self._extent.middle
        task, bare_task = rates[f"task of {size}"], rates["bare task"]
        listed, bare_list = rates[f"list of {size}"], rates["bare list"]
        p99 = Figure(
            GROUP,
            f"task by id of {size:,}, p99",
            "ms",
            task.p99_ms,
            Better.LESS,
            against=BARE,
            reference=bare_task.p99_ms,
            goal=2,
        )
        return [
            _figure(f"task by id of {size:,}", task, bare_task, BARE, goal=0.45),
            p99,
            _figure(f"list of 50 of {size:,}", listed, bare_list, BARE, goal=1.0),
        ]

    def _of_pages_and_updates(self, rates: dict[str, Rate]) -> list[Figure]:
        size, page, updates = self._extent.middle, self._extent.page, self._extent.updates
        first, available = rates[f"list of {size}"], rates["available"]
        after = f"after {updates:,} changes of status"
        return [
            _figure(f"list of 50 of {size:,}, page {page:,}", rates["page"], first, "page 1", goal=0.8),
            _figure(f"list of 50 {after}", rates["list after updates"], first, "the list before", goal=0.5),
            rate_figure(GROUP, f"list of 50 available of {size:,}", available),
            _figure(
                f"list of 50 available {after}",
                rates["available after updates"],
                available,
                "the list before",
                goal=0.5,
            ),
        ]

    def _of_sizes(self, rates: dict[str, Rate]) -> list[Figure]:
        small, large = self._extent.small, self._extent.large
        kinds = {
            "task": "task by id",
            "list": "list of 50",
            "available": "list of 50 available",
            "dashboard": "dashboard",
        }
        figures = []
        for kind, name in kinds.items():
            fewest = rates[f"{kind} of {small}"]
            figures.append(rate_figure(GROUP, f"{name} of {small:,}", fewest))
            if large:
                most = rates[f"{kind} of {large}"]
                figures.append(_figure(f"{name} of {large:,}", most, fewest, f"{small:,} tasks", goal=0.7))
        return figures


def _figure(name: str, rate: Rate, reference: Rate, against: str, *, goal: float) -> Figure:
    return rate_figure(GROUP, name, rate, against=against, reference=reference.per_second, goal=goal)


async def require_same_answers(site: Site, bare: Listening, number: int) -> None:
    """A ceiling that answers something else would be no ceiling."""
    headers = {"Authorization": f"Bearer {site.tokens[0]}"}
    async with httpx2.AsyncClient() as http:
        ours = (await http.get(f"{site.api.address}/api/v1/tasks", headers=headers)).json()
        theirs = (await http.get(f"{bare.address}/tasks?as={person_id(0)}")).json()
        assert [task["id"] for task in ours] == [task["id"] for task in theirs], "the lists differ"
        one = (await http.get(f"{site.api.address}/api/v1/tasks/{task_id(number)}", headers=headers)).json()
        other = (await http.get(f"{bare.address}/task?id={task_id(number)}")).json()
    assert one.keys() == other.keys(), "the ceiling's task has other fields"
    assert (one["id"], one["description"], one["version"]) == (other["id"], other["description"], other["version"])


async def page_address(site: Site, page: int) -> str:
    """Where page `page` of the list of 50 is: its first row is found by walking there in larger steps."""
    tell(f"walking to page {page:,}")
    headers = {"Authorization": f"Bearer {site.tokens[0]}"}
    left = (page - 1) * PAGE_SIZE
    cursor = ""
    async with httpx2.AsyncClient(base_url=site.api.address, headers=headers) as http:
        while left:
            step = min(left, 200)
            answer = await http.get(f"/api/v1/tasks?limit={step}{cursor}")
            assert len(answer.raise_for_status().json()) == step
            following = httpx2.URL(answer.links["next"]["url"])
            cursor = f"&cursor={following.params['cursor']}"
            left -= step
    return f"/api/v1/tasks?limit={PAGE_SIZE}{cursor}"


async def reads(stage: Stage, extent: Extent) -> list[Figure]:
    return await Reads(stage, extent).figures()
