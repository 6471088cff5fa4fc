"""How the protocols of one server get at what they share."""

from typing import Any

from uvicorn.config import Config

from app.wire.connections import ConnectionTable
from app.wire.uvicorn_log import leave_out_mistakes_of_strangers


class WireConfig(Config):
    """uvicorn's configuration, and the table of the process' connections."""

    def __init__(self, app: Any, *, connections: ConnectionTable, is_https: bool = False, **options: Any) -> None:
        super().__init__(app, **options)
        self.connections = connections
        self.is_https = is_https
        leave_out_mistakes_of_strangers()


def wire_config(config: Config) -> WireConfig:
    if not isinstance(config, WireConfig):
        # Some other server than ours runs our protocols.
        raise TypeError("HIVE's protocols need a WireConfig")
    return config
