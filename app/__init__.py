"""HIVE: a self-hosted, real-time task coordination backend."""

import sys

__version__ = "0.1.0"

# structlog and typer load rich where it is: 5 MiB of each process, for colours, and for stacks that show local
# variables, and with them secrets.
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # This is how Python is told that there is none.
