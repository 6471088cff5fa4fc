"""What is stored: the rows of the tasks, and the events as they were written."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.db.transaction import Transaction
from app.services import LeaseService
from app.services.job_service import Postponed, perform
from tests.model.hive import Hive
from tests.model.names import Names
from tests.model.nouns import Event, Json
from tests.utils.test_utils import wait_until

FIELDS = ("title", "description", "category", "priority", "impact_points", "due_at")


class Store:
    def __init__(self, hive: Hive, names: Names) -> None:
        self._hive = hive
        self._names = names
        [row] = hive.sql("SELECT last_seq, (SELECT max(position) FROM events) AS position FROM event_log")
        self._position = row["position"] or 0
        # Where the log was when the run began.
        self.first_seq: int = row["last_seq"]

    def learn_of(self, name: str, title: str) -> None:
        """A new task has this name from now on."""
        [row] = self._hive.sql("SELECT id FROM tasks WHERE title = $1", title)
        self._names.add(name, row["id"])

    def tasks(self) -> dict[str, Json]:
        """All of them, with their blockers and all who have held them; `held_by` has those who hold it now."""
        rows = self._rows("SELECT *, lease_expires_at <= clock_timestamp() AS is_overdue FROM tasks WHERE id = ANY($1)")
        holds = self._rows("SELECT * FROM user_task_associations WHERE task_id = ANY($1) ORDER BY id")
        blockers = self._rows("SELECT * FROM task_blockers WHERE task_id = ANY($1)")
        name = self._names.name
        return {
            str(name(row["id"])): {
                "fields": {field: _as_sent(row[field]) for field in FIELDS},
                "owner": name(row["owner_id"]),
                "status": row["status"],
                "holder": name(row["assignee_id"]),
                "version": row["version"],
                "token": row["lease_token"],
                "lease": row["lease_seconds"],
                "is_overdue": bool(row["is_overdue"]),
                "holds": [(name(hold["user_id"]), name(hold["assigned_by"])) for hold in _of(row, holds)],
                "held_by": [name(hold["user_id"]) for hold in _of(row, holds) if hold["released_at"] is None],
                "blockers": {name(blocker["blocker_id"]) for blocker in _of(row, blockers)},
            }
            for row in rows
        }

    def new_events(self) -> list[Event]:
        """Those that were written since this was asked last."""
        rows = self._rows(
            "SELECT * FROM events WHERE task_id = ANY($1) AND position > $2 ORDER BY position", self._position
        )
        self._position = max((row["position"] for row in rows), default=self._position)
        return [self._event(row) for row in rows]

    def until_published(self) -> None:
        unpublished = "SELECT id FROM events WHERE task_id = ANY($1) AND seq IS NULL"
        wait_until(lambda: not self._rows(unpublished), what="the numbers of all events")

    def run_out(self, name: str) -> None:
        """As if the time of the lease had passed."""
        over = "UPDATE tasks SET lease_expires_at = now() - interval '1 second' WHERE id = $1"
        self._hive.sql(over, self._names.id_of(name))

    def do_lease_jobs(self, name: str) -> None:
        """Do what was asked for to be done at the end of the task's leases, as a worker does it."""
        waiting = "SELECT * FROM jobs WHERE name = 'expire_lease' AND state = 'waiting' AND arguments->>'task_id' = $1"
        for row in self._hive.sql(waiting, str(self._names.id_of(name))):
            token = json.loads(row["arguments"])["token"]
            self._hive.run(self._expire(row["id"], self._names.id_of(name), token))

    async def _expire(self, job_id: UUID, task_id: UUID, token: int) -> None:
        async def effect(transaction: Transaction) -> None:
            if holds_until := await LeaseService(transaction).expire(task_id, token=token):
                raise Postponed(holds_until)

        await perform(self._hive.database, job_id, effect)

    def _rows(self, statement: str, *values: object) -> list[Any]:
        return list(self._hive.sql(statement, self._names.task_ids(), *values))

    def _event(self, row: Any) -> Event:
        readers = (
            None if row["audience"] is None else frozenset(str(self._names.name(each)) for each in row["audience"])
        )
        return Event(
            task=str(self._names.name(row["task_id"])),
            version=row["task_version"],
            type=row["type"],
            actor=str(self._names.name(row["actor_id"])),
            actor_type=row["actor_type"],
            readers=readers,
            data=self._names.in_words(json.loads(row["data"])),
        )


def _of(task: Any, rows: list[Any]) -> list[Any]:
    return [row for row in rows if row["task_id"] == task["id"]]


def _as_sent(value: Any) -> Any:
    """As a client has sent it."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
