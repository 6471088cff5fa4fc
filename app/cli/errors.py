"""How commands end when they can't do their work: exit code 1 and one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from app import embedded
from app.config import ConfigurationError

# The exit code of a command that said in a sentence why it can't do its work.
REFUSED = 1


class CommandError(Exception):
    """A command can't do its work; the message is one sentence."""


@contextmanager
def one_sentence() -> Iterator[None]:
    """End with exit code 1 and one sentence instead of a stack, for what a user of the command can mend."""
    try:
        yield
    except (ConfigurationError, embedded.EmbeddedError, CommandError) as error:
        typer.echo(f"hive: {error}", err=True)
        raise typer.Exit(REFUSED) from error
