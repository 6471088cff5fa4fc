"""The ports of an API process, and what each of their connections has from them."""

import socket

import pytest

from app.config import Settings
from app.listening import listen
from tests.utils.processes import free_port

MIB = 1024 * 1024


@pytest.fixture
def listener(settings: Settings) -> socket.socket:
    return listen(settings.model_copy(update={"host": "127.0.0.1", "port": free_port()})).requests


def test_the_kernel_keeps_little_for_a_client_that_does_not_read(listener: socket.socket) -> None:
    with listener, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.getsockname())
        with listener.accept()[0] as served:
            served.setblocking(False)
            taken = 0
            with pytest.raises(BlockingIOError):
                while True:
                    taken += served.send(bytes(16 * 1024))

    assert taken < MIB
