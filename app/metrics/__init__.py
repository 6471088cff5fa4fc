"""What monitoring is told, in Prometheus's words.

- `http.py`: requests, counted as they are answered.
- `readers.py`: sockets, streams and waiting pages, counted by the room of sockets in plain numbers.
- `wire.py`: connections that were refused, as the table of connections counts them.
- `stored.py`: what all processes share, read from PostgreSQL when it's asked for.
- `exposition.py`: all of it as one text.

Each API process has one `Metrics`, with a registry of its own; nothing is in the library's global one.
"""

from app.metrics.exposition import CONTENT_TYPE, Metrics

__all__ = ["CONTENT_TYPE", "Metrics"]
