"""The ceiling of writes: PostgreSQL's own pgbench, which sends the statements of HIVE's changes and nothing else.

The statements are those with which HIVE makes a change and its event, as its log of statements tells them; not those
by which it knows who asks. Each of pgbench's clients goes through tasks of its own, as each connection to HIVE does.
"""

import asyncio
import signal
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

from app import embedded
from app.embedded.tether import tethered
from bench.rows import PERSON_ID, TASK_ID
from bench.turns import Rate

TASKS_OF_A_CLIENT = 100
OWNERS = 8

_PLACE = f"""\\set i :i + 1
\\set number :first + :client_id * {TASKS_OF_A_CLIENT} + (:i % {TASKS_OF_A_CLIENT})
\\set owner :client_id % {OWNERS}
\\set round :i / {TASKS_OF_A_CLIENT}
"""
_ACTOR = PERSON_ID.format(number=":owner")
_TASK = TASK_ID.format(number=":number")
_COLUMNS = """id, title, description, status, category, priority, priority_rank, impact_points, due_at, owner_id,
    assignee_id, completed_at, version, lease_token, lease_expires_at, lease_seconds, created_at, updated_at"""
_SEE = f"SELECT {_COLUMNS} FROM tasks WHERE id = {_TASK};\n"
# pgbench keeps the two columns that the later statements need.
_LOCK = f"""SELECT {_COLUMNS}, version + 1 AS next_version, lease_token + 1 AS next_lease
    FROM tasks WHERE id = {_TASK} FOR UPDATE \\gset
"""
_BLOCKERS = f"""SELECT tasks.id FROM tasks JOIN task_blockers ON task_blockers.blocker_id = tasks.id
    WHERE task_blockers.task_id = {_TASK} AND tasks.status <> 'completed';
"""
_END_HOLD = f"""UPDATE user_task_associations SET released_at = now()
    WHERE task_id = {_TASK} AND released_at IS NULL;
"""


def _lock_user(user: str) -> str:
    return f"SELECT id FROM users WHERE id = {user} AND is_active FOR SHARE;\n"


def _begin_hold(holder: str) -> str:
    return f"""INSERT INTO user_task_associations (id, task_id, user_id, assigned_by, released_at)
    VALUES (gen_random_uuid(), {_TASK}, {holder}, {_ACTOR}, NULL) RETURNING assigned_at;
"""


def _update(status: str, assignee: str, *, lease: str = "lease_token") -> str:
    return f"""UPDATE tasks SET status = '{status}', assignee_id = {assignee}, version = :next_version::bigint,
    lease_token = {lease}, updated_at = now() WHERE id = {_TASK} RETURNING priority_rank, updated_at;
"""


def _event(kind: str, data: str) -> str:
    return f"""INSERT INTO events
        (id, seq, type, actor_id, actor_type, task_id, task_version, audience, data, request_id)
    VALUES (gen_random_uuid(), NULL, '{kind}', {_ACTOR}, 'user', {_TASK}, :next_version::bigint, NULL,
        jsonb_build_object({data}), gen_random_uuid()::text) RETURNING position, created_at;
"""


_OTHER = PERSON_ID.format(number=":owner::int + 1 + :round::int % 2")
CREATE = f"""\\set i :i + 1
\\set owner :client_id % {OWNERS}
BEGIN;
INSERT INTO tasks (id, title, description, words, status, category, priority, impact_points, due_at, owner_id,
        assignee_id, completed_at, lease_expires_at, lease_seconds)
    VALUES (gen_random_uuid(), 'Water the orchids ' || :i::text, repeat('Twice a week, not in the sun. ', 7),
        ('a in not orchids sun the twice water week ' || :i::text)::tsvector,
        'available', 'greenhouse', 'high', 3, NULL, {_ACTOR}, NULL, NULL, NULL, NULL)
    RETURNING id AS task, priority_rank, version, lease_token, created_at, updated_at \\gset
INSERT INTO events
        (id, seq, type, actor_id, actor_type, task_id, task_version, audience, data, request_id)
    VALUES (gen_random_uuid(), NULL, 'task.created', {_ACTOR}, 'user', :task::uuid, 1, NULL,
        jsonb_build_object('title', 'Water the orchids ' || :i::text, 'description',
            repeat('Twice a week, not in the sun. ', 7), 'status', 'available', 'category', 'greenhouse', 'priority',
            'high', 'impact_points', 3, 'due_at', NULL, 'owner_id', {_ACTOR}), gen_random_uuid()::text)
    RETURNING position, created_at;
COMMIT;
"""
STATUS = (
    _PLACE
    + "BEGIN;\n"
    + _SEE
    + "\\if :round % 2 = 0\n"
    + _lock_user(_ACTOR)
    + _LOCK
    + _BLOCKERS
    + _begin_hold(_ACTOR)
    + _update("in_progress", _ACTOR, lease=":next_lease::bigint")
    + _event("task.status_changed", f"'old_status', 'available', 'new_status', 'in_progress', 'assignee_id', {_ACTOR}")
    + "\\else\n"
    + _LOCK
    + _END_HOLD
    + _update("available", "NULL")
    + _event("task.status_changed", "'old_status', 'in_progress', 'new_status', 'available', 'assignee_id', NULL")
    + "\\endif\n"
    + "COMMIT;\n"
)
ASSIGN = (
    _PLACE
    + "BEGIN;\n"
    + _lock_user(_OTHER)
    + _LOCK
    + f"\\if :round = 0\n{_BLOCKERS}\\endif\n"
    + _END_HOLD
    + _event(
        "task.assigned", f"'assignee_id', {_OTHER}, 'old_status', 'available'::text, 'new_status', 'in_progress'::text"
    )
    + _update("in_progress", _OTHER, lease=":next_lease::bigint")
    + _begin_hold(_OTHER)
    + """INSERT INTO jobs (id, name, arguments, unique_key, held_until, last_error, request_id, done_at)
    VALUES (gen_random_uuid(), 'notify', jsonb_build_object('event_id', gen_random_uuid()), NULL, NULL, NULL,
        gen_random_uuid()::text, NULL)
    RETURNING state, sends, attempts, unknown_outcomes, run_after, created_at;
COMMIT;
"""
)


async def pgbench(script: str, database_url: str, *, clients: int, seconds: float, first: int = 0) -> Rate:
    """Transactions a second; the first task is that of this number. Processor time is the clients' own, so not told."""
    with tempfile.TemporaryDirectory(prefix="hive-pgbench-") as folder:
        path = Path(folder) / "script.sql"
        path.write_text(script)
        length = max(round(seconds), 1)
        options = ["--no-vacuum", "--protocol=prepared", f"--client={clients}", "--jobs=1", f"--time={length}"]
        variables = ["--define=i=-1", f"--define=first={first}"]
        program = str(embedded.postgres_programs() / "pgbench")
        command = [program, *options, *variables, "--log", f"--file={path}", database_url]
        process = await asyncio.create_subprocess_exec(
            *tethered(command, dies_by=signal.SIGKILL), cwd=folder, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
        )
        try:
            output, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        said = output.decode() + errors.decode()
        assert process.returncode == 0, f"pgbench failed:\n{said[-2000:]}"
        return _rate(said, Path(folder))


def _rate(said: str, folder: Path) -> Rate:
    per_second = next(line.split()[2] for line in said.splitlines() if line.startswith("tps = "))
    assert "number of failed transactions: 0 " in said, said
    # The third column of each line is the microseconds of one transaction.
    lines = [line for path in folder.glob("pgbench_log.*") for line in path.read_text().splitlines()]
    times = sorted(int(line.split()[2]) / 1000 for line in lines)
    return Rate(float(per_second), times[len(times) // 2], times[len(times) * 99 // 100], 0.0)
