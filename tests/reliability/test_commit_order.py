"""Transactions that commit in another order than they wrote, while a relay numbers what it sees."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from uuid import UUID

import pytest

from app.core.permissions import Actor
from app.database import Database
from app.db.transaction import Transaction
from app.events.wakeup import RelayWaker
from app.models import User
from app.schemas.task import TaskCreate, TaskUpdate
from app.services import ChatService, TaskService
from tests.reliability.havoc import running
from tests.reliability.log import check_log, check_readers, read_log, text_of, until_all_have
from tests.reliability.readers import KINDS
from tests.reliability.scale import Report, Scale
from tests.reliability.system import ChaosSystem

pytestmark = pytest.mark.reliability

# Seconds for which a transaction stays open after it has written.
QUICK, SLOW = (0.0, 0.0, 0.005, 0.02), (0.1, 0.4, 1.0)


class ChangedMyMind(Exception):
    """Rolls a transaction back."""


async def test_numbers_are_given_in_the_order_of_commits(scale: Scale, report: Report) -> None:
    async with ChaosSystem(apis=1, relays=2) as system:
        user = await system.user("Ada")
        readers = [kind(user, system.token_of(user), system.apis) for kind in KINDS]
        async with database_that_wakes_relays(system, connections=scale(50, short=25)) as database:
            committer = Committer(database, user)
            await committer.make_tasks(5)
            async with running(reader.run() for reader in readers):
                transactions = scale(4_000, short=400)
                await asyncio.gather(*(committer.run(until=transactions) for _ in range(scale(50, short=25))))
                log = await read_log(system)
                for reader in readers:
                    reader.stay_from_now_on()
                await until_all_have(readers, log)

        late = sum(later < earlier for earlier, later in pairwise(row["position"] for row in log))
        report.add("transactions committed", committer.commits)
        report.add("transactions rolled back", committer.rollbacks)
        report.add("events", len(log))
        report.add("events that were written before and committed after another one", late)
        assert late > scale(400, short=40)
        assert Counter(text_of(row) for row in log) == Counter(committer.texts)
        check_log(log)
        check_readers(readers, log)


class Committer:
    """Transactions of several writers at once: quick and slow ones, some of which are rolled back."""

    def __init__(self, database: Database, user: User) -> None:
        self.commits = 0
        self.rollbacks = 0
        self.texts: list[str] = []
        self._database = database
        self._actor = Actor.of(user)
        self._tasks: list[UUID] = []
        self._begun = 0

    async def make_tasks(self, count: int) -> None:
        for number in range(count):
            async with self._database.unit_of_work() as transaction:
                task = await TaskService(transaction).create(self._actor, TaskCreate(title=f"task {number}"))
            self._tasks.append(task.id)
            self.texts.append(task.title)

    async def run(self, until: int) -> None:
        while self.commits < until:
            try:
                texts = await self._transaction()
            except ChangedMyMind:
                self.rollbacks += 1
            else:
                self.commits += 1
                self.texts += texts

    async def _transaction(self) -> Sequence[str]:
        self._begun += 1
        write = random.choice((self._edit, self._chat))
        async with self._database.unit_of_work() as transaction:
            texts = await write(transaction, self._begun)
            if random.random() < 0.1:
                raise ChangedMyMind
        return texts

    async def _edit(self, transaction: Transaction, number: int) -> Sequence[str]:
        """An edit of a task that others edit too; they wait for this transaction, so it's not slow."""
        title = f"edit {number}"
        await TaskService(transaction).update(self._actor, random.choice(self._tasks), TaskUpdate(title=title))
        await asyncio.sleep(random.choice(QUICK))
        return [title]

    async def _chat(self, transaction: Transaction, number: int) -> Sequence[str]:
        texts = [f"chat {number}.{part}" for part in range(random.randint(1, 3))]
        for text in texts:
            await ChatService(transaction).say(self._actor, text)
            # How long a transaction takes is what is tested here; nobody waits for anything.
            await asyncio.sleep(random.choice(random.choice((QUICK, QUICK, SLOW))))
        return texts


@asynccontextmanager
async def database_that_wakes_relays(system: ChaosSystem, *, connections: int) -> AsyncIterator[Database]:
    """As an API process has it, so that the relay looks again and again while transactions are open."""
    database = Database.connect(system.database_url, application="tests", pool_size=connections)
    waker = RelayWaker(system.redis)
    database.wake_relay = waker.wake
    async with running([waker.run()]):
        yield database
    await database.close()
