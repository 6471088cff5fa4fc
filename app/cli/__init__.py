"""The `hive` command."""

import asyncio
import gc
import http.client
import subprocess
import sys
import urllib.request
import warnings
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from app import embedded
from app.backing import Backing, join_backing, locate_backing
from app.cli.errors import REFUSED, CommandError, one_sentence
from app.cli.jobs import jobs_app
from app.cli.listening import Listeners, listen
from app.cli.users import user_app
from app.config import Settings, authority, load_settings
from app.mail_settings import read_path
from app.processes.broken_parts import BrokenPartsFile
from app.processes.supervisor import Part, Supervisor

app = typer.Typer(
    help="HIVE: real-time task coordination.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    # Its stacks show local variables, and with them secrets.
    pretty_exceptions_enable=False,
)


class TakenQueues(StrEnum):
    MAIN = "main"
    OUTSIDE = "outside"
    ALL = "all"


# What is outside is waited for, one at a time, which needs no processes besides the worker's own.
OPTIONS_OF_WORKERS: Mapping[TakenQueues, Sequence[str]] = {
    TakenQueues.MAIN: ("-Q", "hive"),
    TakenQueues.OUTSIDE: ("-Q", "hive-outside", "-P", "solo"),
    TakenQueues.ALL: (),
}
app.add_typer(user_app, name="user")
app.add_typer(jobs_app, name="jobs")


@app.command()
def run() -> None:
    """Start the whole system as one program: servers, migrations, API, relay, worker, scheduler."""
    with one_sentence():
        settings = load_settings()
        # Before anything starts. They stay open here, so that clients wait while an API process starts again.
        listeners = listen(settings)
        _migrate(join_backing(settings))
        try:
            exit_code = _supervise(settings, listeners)
        finally:
            embedded.leave()
        raise typer.Exit(exit_code)


def _migrate(backing: Backing) -> None:
    from app.revisions import is_at_newest_revision  # noqa: PLC0415

    if asyncio.run(is_at_newest_revision(backing.database_url)):
        return
    # In a process of its own, so that this one stays small for as long as the system runs.
    if subprocess.run(_hive("migrate", "--quiet"), check=False).returncode != 0:
        raise CommandError("the database is not migrated, so nothing was started.")


def _supervise(settings: Settings, listeners: Listeners) -> int:
    parts = [
        Part(
            "api",
            _hive("api", "--listeners", listeners.in_words()),
            fatal_exit_codes=frozenset({REFUSED}),
            descriptors=listeners.descriptors,
        ),
        # What they do may come a second later; the first answer comes sooner when the API has the processor alone.
        Part("relay", _hive("relay"), starts_later=True),
        *_workers(settings),
        Part("scheduler", _hive("scheduler"), starts_later=True),
    ]
    address = f"http://{authority(_reachable(settings.host), settings.port)}"
    tell_broken = BrokenPartsFile(settings.data_dir).tell
    tell_broken(())
    supervisor = Supervisor(
        parts,
        lambda line: typer.echo(f"hive: {line}", err=True),
        tell_broken,
        # Nobody would be answered any more.
        when_stopping=listeners.close,
    )
    answers = partial(_answers, f"{address}/health")
    supervisor.when(answers, supervisor.start_the_rest)
    supervisor.when(answers, lambda: typer.echo(f"HIVE is at {address} (try {address}/docs). Ctrl-C stops it."))
    return supervisor.run()


def _workers(settings: Settings) -> list[Part]:
    """One for all jobs where there is no mail to send; else one that a slow mail server can't hold up."""
    if settings.smtp_url is None:
        return [Part("worker", _hive("worker"), starts_later=True)]
    return [
        Part("worker", _hive("worker", "--queue", TakenQueues.MAIN), starts_later=True),
        Part("mail", _hive("worker", "--queue", TakenQueues.OUTSIDE), starts_later=True),
    ]


@app.command()
def api(
    root_path: Annotated[
        str, typer.Option(help="The path that HIVE is below, such as /hive, if PUBLIC_URL doesn't say it.")
    ] = "",
    inherited: Annotated[str, typer.Option("--listeners", hidden=True, help="Sockets of hive run.")] = "",
) -> None:
    """Run one API process."""
    # What is loaded now stays, so that to look for garbage meanwhile is in vain and takes a tenth of the start. It
    # begins when the server has started.
    gc.disable()
    from app.processes.api import serve  # noqa: PLC0415  # Each command loads only what it needs; `hive run` stays small.

    with one_sentence():
        settings = load_settings()
        root_path = _read_root_path(root_path)
        _join_usable(settings, "api", wanted=settings.database_pool_size)
        listeners = Listeners.inherited(inherited) if inherited else listen(settings)
    is_started = serve(settings, listeners.requests, listeners.scrapers, root_path=root_path)
    raise typer.Exit(0 if is_started else 1)


@app.command()
def relay() -> None:
    """Run a relay: it publishes events and sends jobs. One is active at a time, others stand by."""
    from app.processes.relay import run_relay  # noqa: PLC0415

    with one_sentence():
        settings = load_settings()
        backing = _join_usable(settings, "relay")
    asyncio.run(run_relay(settings, backing))


@app.command()
def worker(
    queue: Annotated[
        TakenQueues, typer.Option(help="Which jobs it does: those in the database, those outside (mail), or all.")
    ] = TakenQueues.ALL,
) -> None:
    """Run a worker for background jobs."""
    from celery.exceptions import SecurityWarning  # noqa: PLC0415

    from app.workers.celery_app import celery_app  # noqa: PLC0415

    with one_sentence():
        settings = load_settings()
        join_backing(settings)
    # HIVE is meant to work as root too, in a container for example, and takes no pickled messages.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    options = ["--loglevel", settings.log_level, "--without-mingle", "--without-gossip", *OPTIONS_OF_WORKERS[queue]]
    celery_app.start(["--quiet", "worker", *options])


@app.command()
def scheduler() -> None:
    """Run the scheduler, which asks for jobs at their times."""
    from app.processes.scheduler import run_scheduler  # noqa: PLC0415

    with one_sentence():
        settings = load_settings()
        backing = _join_usable(settings, "scheduler")
    asyncio.run(run_scheduler(settings, backing))


@app.command()
def migrate(
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing when it works.")] = False,  # noqa: FBT002
) -> None:
    """Bring the database to the newest revision."""
    from app.core.logging import configure_logging  # noqa: PLC0415
    from app.migrate import MigrationError  # noqa: PLC0415
    from app.migrate import migrate as run_migrations  # noqa: PLC0415

    with one_sentence():
        settings = load_settings()
        configure_logging(settings, "migrate")
        try:
            run_migrations(settings)
        except MigrationError as error:
            raise CommandError(str(error)) from error
    if not quiet:
        typer.echo("The database is at the newest revision.")


@app.command()
def doctor() -> None:
    """Say what is configured, and whether each part answers."""
    from app.cli.doctor import examine  # noqa: PLC0415

    with one_sentence():
        settings = load_settings()
        backing = locate_backing(settings)
    is_well = asyncio.run(examine(settings, backing, typer.echo))
    raise typer.Exit(0 if is_well else 1)


@app.command()
def restored() -> None:
    """Say that the database was set back as a copy of its files, which it can't know by itself."""
    from app.cli.log_command import expect_new_history  # noqa: PLC0415

    with one_sentence():
        backing = join_backing(load_settings())
        try:
            asyncio.run(expect_new_history(backing.database_url))
        except ValueError as error:
            raise CommandError(str(error)) from error
    typer.echo("A new history of events begins when the relay starts.")


def _read_root_path(text: str) -> str:
    try:
        return read_path(text)
    except ValueError as error:
        raise CommandError(f"--root-path: {error}.") from None


def _join_usable(settings: Settings, process: str, *, wanted: int = 0) -> Backing:
    """The servers, unless one of them can't be used for a reason that doesn't pass."""
    from app.core.logging import configure_logging  # noqa: PLC0415
    from app.server_checks import refuse_unusable  # noqa: PLC0415

    configure_logging(settings, process)
    backing = join_backing(settings)
    asyncio.run(refuse_unusable(settings, backing, wanted=wanted))
    return backing


def _hive(*command: str) -> list[str]:
    # -P, so that an `app` folder in the working directory is not mistaken for ours.
    return [sys.executable, "-P", "-m", "app.cli", *command]


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # Read, not bound.


def _answers(url: str) -> bool:
    try:
        # Our own address; a proxy that is set for the way out has no part in it.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(url, timeout=0.5) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def main() -> None:
    app()
