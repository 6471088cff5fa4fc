"""What is read of tasks and done to them, as answers."""

from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Scope

from app.api.paging import next_page
from app.api.prefix import public_path
from app.core.etags import etag_of, refuse_known
from app.core.permissions import Actor
from app.models import Task
from app.reads.task_reads import FoundTask, FoundTasks
from app.schemas.task import TaskResponse

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


def change_answer(task: Task, actor: Actor, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The task as it is after the change, for who has made it."""
    content = TaskResponse.of(task, viewer=actor.id).model_dump_json()
    return Response(content, status, {"ETag": etag_of(task.version), **(headers or {})}, JSON)


def location_of(task: Task, scope: Scope) -> str:
    return public_path(scope, f"/api/v1/tasks/{task.id}")
