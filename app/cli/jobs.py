"""The `hive jobs` commands."""

import asyncio
from datetime import timedelta
from typing import Annotated
from uuid import UUID

import typer
from pydantic import ValidationError

from app.backing import join_backing
from app.cli.errors import CommandError, one_sentence
from app.config import load_settings

jobs_app = typer.Typer(help="Background jobs.", no_args_is_help=True)


@jobs_app.command("list")
def list_jobs(
    state: Annotated[
        list[str] | None, typer.Option(help="waiting, sent, done or dead; may come several times.")
    ] = None,
    name: Annotated[list[str] | None, typer.Option(help="Such as notify; may come several times.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 50,
) -> None:
    """List jobs, newest first: id, state, when it was asked for, attempts, name, last error."""
    from app.cli.jobs_command import list_jobs as find_jobs  # noqa: PLC0415  # Each command loads only what it needs.
    from app.schemas.job import JobListQuery  # noqa: PLC0415

    with one_sentence():
        try:
            query = JobListQuery.model_validate({"state": state or (), "name": name or (), "limit": limit})
            lines = asyncio.run(find_jobs(join_backing(load_settings()).database_url, query))
        except ValueError as error:
            raise CommandError(_first_line(error)) from error
    for line in lines:
        typer.echo(line)


@jobs_app.command("retry")
def retry_jobs(
    job_ids: Annotated[list[UUID] | None, typer.Argument(help="The ids of dead jobs.")] = None,
    is_all: Annotated[bool, typer.Option("--all", help="All dead jobs.")] = False,  # noqa: FBT002  # typer's flags.
) -> None:
    """Retry dead jobs, from their first attempt on."""
    from app.cli.jobs_command import retry_jobs as retry  # noqa: PLC0415

    with one_sentence():
        if bool(job_ids) == is_all:
            raise CommandError("say which jobs by their ids, or --all.")
        try:
            count = asyncio.run(retry(join_backing(load_settings()).database_url, job_ids or None))
        except ValueError as error:
            raise CommandError(str(error)) from error
        if job_ids and count < len(job_ids):
            raise CommandError(f"only {count} of these {len(job_ids)} jobs are dead; those will be tried again.")
    typer.echo(f"{count} will be tried again.")


@jobs_app.command("purge")
def purge_jobs(
    is_dead: Annotated[bool, typer.Option("--dead", help="Dead jobs instead of done ones.")] = False,  # noqa: FBT002
    older_than: Annotated[int, typer.Option(min=0, help="Only those asked for so many days ago or earlier.")] = 0,
) -> None:
    """Forget jobs that are done, or dead."""
    from app.cli.jobs_command import purge_jobs as purge  # noqa: PLC0415
    from app.models import JobState  # noqa: PLC0415

    with one_sentence():
        url = join_backing(load_settings()).database_url
        state = JobState.DEAD if is_dead else JobState.DONE
        try:
            count = asyncio.run(purge(url, state, older_than=timedelta(days=older_than)))
        except ValueError as error:
            raise CommandError(str(error)) from error
    typer.echo(f"Forgot {count}.")


def _first_line(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        fault = error.errors(include_url=False)[0]
        return f"{fault['loc'][0]}: {fault['msg']}"
    return str(error)
