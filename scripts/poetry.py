"""Run the checkout's own Poetry with the package index that pip is set up for. Arguments go on to Poetry.

Poetry by itself knows only the public index and its own settings. The plugin `poetry-plugin-pypi-mirror` takes another
one from the environment and leaves no trace of it in the lock file. Must be run by the Python that Poetry is installed
for.
"""

import os
import sys
from pathlib import Path

from pip._internal.commands import create_command


def settings_of_pip() -> dict[str, str]:
    """What pip's files, environment and defaults come to, under the names that Poetry reads."""
    options, _ = create_command("install").parse_args([])
    wanted = {
        "POETRY_PYPI_MIRROR_URL": options.index_url,
        "REQUESTS_CA_BUNDLE": options.cert,
        "HTTPS_PROXY": options.proxy,
    }
    return {name: value for name, value in wanted.items() if value}


def main() -> None:
    poetry = Path(sys.executable).with_name("poetry")
    # What is set for Poetry itself comes first.
    os.execve(poetry, [str(poetry), *sys.argv[1:]], settings_of_pip() | os.environ)  # noqa: S606  # A shell is the last thing wanted here.


if __name__ == "__main__":
    main()
