"""The `hive user` commands."""

import asyncio
import getpass
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from app.backing import join_backing
from app.cli.errors import CommandError, one_sentence
from app.config import Settings, load_settings

if TYPE_CHECKING:
    from app.cli.accounts import Change

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
    from app.cli.accounts import create_account  # noqa: PLC0415  # Each command loads only what it needs.

    with one_sentence():
        url = _join_database(load_settings())
        password = _ask_for_password()
        try:
            asyncio.run(
                create_account(
                    url,
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


def _join_database(settings: Settings) -> str:
    from app.core.logging import configure_logging  # noqa: PLC0415

    # What was done stands in the audit log, and is said in one sentence.
    configure_logging(settings.model_copy(update={"log_level": "WARNING"}), "user")
    return join_backing(settings).database_url


def _ask_for_password() -> str:
    return getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


@user_app.command("list")
def list_users(
    words: Annotated[str, typer.Option("--q", help="Only accounts whose name or address contains this.")] = "",
) -> None:
    """Print a line for each account: id, address, state, name."""
    from app.cli.accounts import list_accounts  # noqa: PLC0415

    with one_sentence():
        url = _join_database(load_settings())
        try:
            accounts = asyncio.run(list_accounts(url, words=words or None))
        except ValueError as error:
            raise CommandError(str(error)) from error
    for account in accounts:
        state = "active" if account.active else "emptied" if account.emptied_at else "deactivated"
        kind = "admin" if account.admin else account.type
        typer.echo(f"{account.id}  {account.email or '-'}  {state}  {kind}  {account.display_name}")


Account = Annotated[str, typer.Argument(help="An address or an id.")]
KeepTokens = Annotated[bool, typer.Option("--keep-tokens", help="API tokens go on working, its agents' too.")]


@user_app.command("deactivate")
def deactivate(account: Account) -> None:
    """End an account and its agents: sessions, tokens and sockets end, and what it holds becomes available."""
    from app.cli.accounts import deactivate  # noqa: PLC0415

    _change(account, deactivate, "Deactivated")


@user_app.command("reactivate")
def reactivate(account: Account) -> None:
    """Let an account that has ended begin anew, with its address and password."""
    from app.cli.accounts import reactivate  # noqa: PLC0415

    _change(account, reactivate, "Reactivated")


@user_app.command("promote")
def promote(account: Account) -> None:
    """Make an admin of a person."""
    from app.cli.accounts import promote  # noqa: PLC0415

    _change(account, promote, "Promoted")


@user_app.command("demote")
def demote(account: Account) -> None:
    """Take an admin's rights. The last active admin stays."""
    from app.cli.accounts import demote  # noqa: PLC0415

    _change(account, demote, "Demoted")


@user_app.command("sign-out")
def sign_out(account: Account, keep_tokens: KeepTokens = False) -> None:  # noqa: FBT002  # typer's flags.
    """End all sessions of an account, and its API tokens and those of its agents."""
    from app.cli.accounts import sign_out  # noqa: PLC0415

    _change(account, sign_out(keep_tokens=keep_tokens), "Signed out")


@user_app.command("set-password")
def set_password(account: Account, keep_tokens: KeepTokens = False) -> None:  # noqa: FBT002  # The same.
    """Give a person another password, and end what was opened with the old one.

    The password is asked for, or read from standard input.
    """
    from app.cli.accounts import set_password  # noqa: PLC0415

    _change(account, set_password(_ask_for_password(), keep_tokens=keep_tokens), "Set the password of")


def _change(account: str, change: "Change", done: str) -> None:
    from app.cli.accounts import change_account  # noqa: PLC0415

    with one_sentence():
        url = _join_database(load_settings())
        try:
            name = asyncio.run(change_account(url, name=account, change=change))
        except ValueError as error:
            raise CommandError(str(error)) from error
    typer.echo(f"{done} {name}.")


@user_app.command("hand-over")
def hand_over(
    old: Annotated[str, typer.Argument(help="Whose tasks: an address or an id, also of an account that has ended.")],
    new: Annotated[str, typer.Argument(help="Who is to own them: the address or id of an active account.")],
    agents: Annotated[bool, typer.Option("--agents", help="Also what their agents own.")] = False,  # noqa: FBT002  # The same.
) -> None:
    """Hand all tasks of an account over to another one. Run it again if it was interrupted."""
    from app.cli.accounts import hand_over_tasks  # noqa: PLC0415

    with one_sentence():
        settings = load_settings()
        url = _join_database(settings)
        sends_mail = settings.smtp_url is not None
        try:
            count = asyncio.run(hand_over_tasks(url, old=old, new=new, with_agents=agents, sends_mail=sends_mail))
        except ValueError as error:
            raise CommandError(str(error)) from error
    typer.echo(f"Handed over {count} {'task' if count == 1 else 'tasks'} from {old} to {new}.")
