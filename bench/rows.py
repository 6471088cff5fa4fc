"""The rows of a benchmark, made by SQL alone and in the shape in which the API makes them.

A task's number tells all of it, so that a measurement knows which task has which id, owner and status without
asking: a tenth are drafts, which nobody but their owner sees, and of the others some are available, some are being
worked on and some are done.
"""

from dataclasses import dataclass

import asyncpg

PEOPLE = 50
DRAFTS = (3, 13)  # Of twenty.

# Two ranges of UUIDv7, as if all had been made one after the other.
TASK_ID = "('01900000-0000-7000-8000-' || lpad(to_hex(({number})::int), 12, '0'))::uuid"
PERSON_ID = "('01900000-0000-7000-9000-' || lpad(to_hex(({number})::int), 12, '0'))::uuid"

_PEOPLE = f"""
    INSERT INTO users (id, email, email_key, password_hash, display_name, role, skills)
    SELECT {PERSON_ID.format(number="number")}, address, address, $1, 'Person ' || number,
        'Gardener', ARRAY['watering', 'pruning']
    FROM generate_series(0, $2::int - 1) AS number, concat('person', number, '@bench.example.org') AS address
"""
_WORDS = (
    "water prune repot move count photograph label order measure mend sweep paint carry cut feed shade wash weigh "
    "orchid rose fern cactus palm lemon vine moss lily iris ivy tulip bench tap hose lamp door roof path shelf"
)
_TASKS = f"""
    WITH words AS (SELECT string_to_array('{_WORDS}', ' ') AS word),
    numbered AS (
        SELECT number, {PERSON_ID.format(number="number % 50")} AS owner_id,
            CASE
                WHEN number % 20 IN {DRAFTS} THEN 'draft'
                WHEN number % 20 < 10 THEN 'available'
                WHEN number % 20 < 15 THEN 'in_progress'
                ELSE 'completed'
            END AS status,
            now() - interval '90 days' + number * (interval '90 days' / $2::int) AS made_at
        FROM generate_series($1::int, $2::int - 1) AS number
    )
    INSERT INTO tasks (
        id, title, description, words, status, category, priority, impact_points, due_at, owner_id, assignee_id,
        completed_at, version, lease_token, created_at, updated_at
    )
    SELECT {TASK_ID.format(number="number")},
        title,
        description,
        -- Of plain words in English, and only of those, PostgreSQL makes what HIVE does.
        strip(to_tsvector('simple', title || ' ' || description)),
        status,
        (ARRAY['greenhouse', 'garden', 'roses', 'office', 'kitchen', 'repairs', 'orders', 'general'])[1 + number % 8],
        (ARRAY['urgent', 'high', 'medium', 'medium', 'low'])[1 + number % 5],
        number % 14,
        CASE WHEN number % 3 = 0 THEN made_at + interval '14 days' END,
        owner_id,
        CASE WHEN status IN ('in_progress', 'completed') THEN {PERSON_ID.format(number="(number * 7) % 50")} END,
        CASE WHEN status = 'completed' THEN made_at + interval '1 hour' END,
        CASE status WHEN 'draft' THEN 1 WHEN 'available' THEN 2 WHEN 'in_progress' THEN 3 ELSE 4 END,
        CASE WHEN status IN ('in_progress', 'completed') THEN 1 ELSE 0 END,
        made_at,
        made_at + interval '30 minutes'
    FROM numbered, words, LATERAL (
        SELECT initcap(word[1 + number % 18]) || ' the ' || word[19 + number * 7 % 20] || ' in room ' || number % 97
                AS title,
            (
                SELECT string_agg(word[1 + (number * 13 + place * (1 + number % 11)) % 38], ' ')
                FROM generate_series(1, 5 + number % 60) AS place
            ) AS description
    ) AS texts
"""
_HOLDS = """
    INSERT INTO user_task_associations (id, task_id, user_id, assigned_by, assigned_at, released_at)
    SELECT gen_random_uuid(), id, assignee_id, assignee_id, updated_at, NULL
    FROM tasks WHERE status = 'in_progress'
"""
_STARTABLE = f"""
    WITH startable AS (
        SELECT number, {TASK_ID.format(number="number")} AS id FROM generate_series(0, {{tasks}} - 1) AS number
    ),
    released AS (DELETE FROM user_task_associations USING startable WHERE task_id = startable.id)
    UPDATE tasks SET status = 'available', assignee_id = NULL, completed_at = NULL,
        owner_id = {PERSON_ID.format(number="(number / {owned} % {owners})")}
    FROM startable WHERE tasks.id = startable.id
"""
# As when people start tasks and give them back.
_STEPS = """
    UPDATE tasks SET status = $1, assignee_id = CASE WHEN $1 = 'available' THEN NULL ELSE owner_id END,
        version = version + 1, updated_at = clock_timestamp()
    WHERE id = ANY($2::uuid[])
"""
_INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes
    WHERE tablename = 'tasks' AND schemaname = 'public' AND indexname NOT LIKE 'pk\\_%'
"""
UPDATES_AT_ONCE = 50
# The tasks that a team is at are few of all that there are.
MOVING = 5_000


def task_id(number: int) -> str:
    return f"01900000-0000-7000-8000-{number:012x}"


def person_id(number: int) -> str:
    return f"01900000-0000-7000-9000-{number % PEOPLE:012x}"


def email_of(number: int) -> str:
    return f"person{number}@bench.example.org"


def is_draft(number: int) -> bool:
    return number % 20 in DRAFTS


def is_available(number: int) -> bool:
    return number % 20 < 10 and not is_draft(number)


@dataclass(frozen=True, slots=True)
class Rows:
    """Makes rows in an empty, migrated database."""

    database_url: str

    async def make_people(self, password_hash: str) -> None:
        """`PEOPLE` accounts, all with the same password, for hashing one takes a while."""
        database = await asyncpg.connect(self.database_url)
        try:
            await database.execute(_PEOPLE, password_hash, PEOPLE)
        finally:
            await database.close()

    async def make(self, tasks: int, *, password_hash: str) -> None:
        """The people, and so many tasks."""
        await self.make_people(password_hash)
        database = await asyncpg.connect(self.database_url)
        try:
            await database.execute("SET maintenance_work_mem = '512MB'")
            # A million rows take minutes if each goes into each index by itself.
            indexes = await database.fetch(_INDEXES)
            for index in indexes:
                await database.execute(f"DROP INDEX {index['indexname']}")
            await database.execute(_TASKS, 0, tasks)
            for index in indexes:
                await database.execute(index["indexdef"])
            await database.execute(_HOLDS)
            await database.execute("VACUUM ANALYZE")
            await database.execute("CHECKPOINT")
        finally:
            await database.close()

    async def make_startable(self, tasks: int, *, owners: int, owned: int) -> None:
        """The first tasks are available, and belong to the first people: so many to each in turn."""
        database = await asyncpg.connect(self.database_url)
        try:
            await database.execute(_STARTABLE.format(tasks=tasks, owners=owners, owned=owned))
            await database.execute("VACUUM ANALYZE")
        finally:
            await database.close()

    async def change_statuses(self, updates: int, *, tasks: int) -> None:
        """At least so many changes of status, in small transactions, of the newest available tasks again and again.

        Each comes to be available again, so that the lists have as many rows as before.
        """
        available = [number for number in range(tasks) if is_available(number)]
        chosen = [task_id(number) for number in available[-MOVING:]]
        database = await asyncpg.connect(self.database_url)
        done = 0
        try:
            while done < updates:
                for start in range(0, len(chosen), UPDATES_AT_ONCE):
                    ids = chosen[start : start + UPDATES_AT_ONCE]
                    await database.execute(_STEPS, "in_progress", ids)
                    await database.execute(_STEPS, "available", ids)
                    done += 2 * len(ids)
        finally:
            await database.close()
