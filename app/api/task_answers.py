"""What is read of tasks, as answers."""

from starlette.responses import Response
from starlette.types import Scope

from app.api.paging import next_page
from app.core.etags import etag_of, refuse_known
from app.reads.task_reads import FoundTask, FoundTasks

JSON = "application/json"


def task_answer(found: FoundTask, *, if_none_match: str | None) -> Response:
    """Raises `NotModified` if the caller has this version already."""
    refuse_known(if_none_match, found.version)
    return Response(found.json, media_type=JSON, headers={"ETag": etag_of(found.version)})


def tasks_answer(found: FoundTasks, scope: Scope) -> Response:
    headers = {"Hive-Seq": str(found.seq), "Hive-Epoch": str(found.epoch)}
    if found.next_cursor:
        headers["Link"] = next_page(scope, found.next_cursor)
    return Response(found.json, media_type=JSON, headers=headers)
