"""A Valkey of a test's own, with the configuration that the test gives."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from app import embedded
from tests.utils.processes import free_port
from tests.utils.test_utils import wait_until


@contextmanager
def running_valkey(folder: Path, *lines: str) -> Iterator[int]:
    """Yield the port, once the server listens. Each line is one of a configuration file."""
    port = free_port()
    configuration = folder / f"valkey-{port}.conf"
    configuration.write_text("\n".join([f"port {port}", "bind 127.0.0.1", 'save ""', f"dir {folder}", *lines]))
    with subprocess.Popen([embedded.valkey_program(), configuration], stdout=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: _listens(port), what="Valkey to listen")
            yield port
        finally:
            server.kill()


def _listens(port: int) -> bool:
    with redis.Redis(port=port) as client:
        try:
            client.ping()
        except redis.ConnectionError as error:
            # One that refuses the password, or is loading, listens.
            return not isinstance(error.__cause__ or error.__context__, OSError)
        except redis.RedisError:
            return True
        return True
