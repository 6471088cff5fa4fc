"""How the protocols of one server get at what they share."""

from typing import Any

from uvicorn.config import Config

from app.wire.connections import ConnectionTable


class WireConfig(Config):
    """uvicorn's configuration, and the table of the process' connections."""

    def __init__(self, app: Any, *, connections: ConnectionTable, **options: Any) -> None:
        super().__init__(app, **options)
        self.connections = connections


def table_of(config: Config) -> ConnectionTable:
    if not isinstance(config, WireConfig):
        # Some other server than ours runs our protocols.
        raise TypeError("HIVE's protocols need a WireConfig")
    return config.connections
