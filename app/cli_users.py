"""The `hive user` commands."""

import asyncio
import getpass
import sys
from typing import Annotated

import typer

from app.backing import join_backing
from app.cli_errors import CommandError, one_sentence
from app.config import load_settings

user_app = typer.Typer(help="Accounts.", no_args_is_help=True)


@user_app.command("create")
def create_user(
    email: Annotated[str, typer.Argument(help="The address to sign in with.")],
    name: Annotated[str, typer.Option(help="The name that others see; the part before the @ unless given.")] = "",
    time_zone: Annotated[
        str, typer.Option(help="Where they are, for due days and mails, such as Europe/Berlin.")
    ] = "UTC",
    admin: Annotated[bool, typer.Option("--admin", help="May do everything.")] = False,  # noqa: FBT002  # typer's flags.
) -> None:
    """Make an account. The password is asked for, or read from standard input."""
    from app.accounts import create_account  # noqa: PLC0415  # Each command loads only what it needs.

    with one_sentence():
        settings = load_settings()
        backing = join_backing(settings)
        password = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
        try:
            asyncio.run(
                create_account(
                    backing.database_url,
                    email=email,
                    name=name,
                    password=password,
                    is_admin=admin,
                    time_zone=time_zone,
                )
            )
        except ValueError as error:
            raise CommandError(str(error)) from error
    typer.echo(f"Created {'admin' if admin else 'user'} {email}.")


@user_app.command("hand-over")
def hand_over(
    old: Annotated[str, typer.Argument(help="Whose tasks: an address or an id, also of an account that has ended.")],
    new: Annotated[str, typer.Argument(help="Who is to own them: the address or id of an active account.")],
    agents: Annotated[bool, typer.Option("--agents", help="Also what their agents own.")] = False,  # noqa: FBT002  # The same.
) -> None:
    """Hand all tasks of an account over to another one. Run it again if it was interrupted."""
    from app.accounts import hand_over_tasks  # noqa: PLC0415

    with one_sentence():
        settings = load_settings()
        url = join_backing(settings).database_url
        sends_mail = settings.smtp_url is not None
        try:
            count = asyncio.run(hand_over_tasks(url, old=old, new=new, with_agents=agents, sends_mail=sends_mail))
        except ValueError as error:
            raise CommandError(str(error)) from error
    typer.echo(f"Handed over {count} {'task' if count == 1 else 'tasks'} from {old} to {new}.")
