"""The ceiling of reads: Starlette under uvicorn, rows by asyncpg as they come, JSON by msgspec. Nobody signs in.

    python -m bench.ceilings.bare_api <port> <database>

The rows and the JSON are the same as HIVE's. `/task?id=` is one task, `/tasks?as=` the newest 50 that this person sees.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

# As HIVE's own pool has by default.
CONNECTIONS = 10
COLUMNS = """
    SELECT id, title, description, status, category, priority, impact_points, due_at, owner_id, assignee_id,
        completed_at, version, created_at, updated_at, NULL AS lease
    FROM tasks
"""
ONE = f"{COLUMNS} WHERE id = $1"
LIST = f"{COLUMNS} WHERE status <> 'draft' OR owner_id = $1 ORDER BY created_at DESC, id DESC LIMIT 50"

encode = msgspec.json.Encoder().encode


class Connection(asyncpg.Connection):
    """One that has nothing to reset between two uses, for nothing was set."""

    def get_reset_query(self) -> str:
        return ""


async def one_task(request: Request) -> Response:
    row = await request.app.state.pool.fetchrow(ONE, UUID(request.query_params["id"]))
    return Response(encode(dict(row)), media_type="application/json")


async def list_tasks(request: Request) -> Response:
    rows = await request.app.state.pool.fetch(LIST, UUID(request.query_params["as"]))
    return Response(encode([dict(row) for row in rows]), media_type="application/json")


def main(port: int, database_url: str) -> None:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with asyncpg.create_pool(
            database_url, min_size=CONNECTIONS, max_size=CONNECTIONS, connection_class=Connection
        ) as pool:
            app.state.pool = pool
            yield

    routes = [Route("/task", one_task), Route("/tasks", list_tasks)]
    uvicorn.run(
        Starlette(routes=routes, lifespan=lifespan),
        port=port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
