"""The ports of an API process, and what each of their connections has from them."""

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from app.cli.errors import CommandError
from app.cli.listening import Listeners, listen
from app.config import Settings, authority
from tests.utils.processes import free_port
from tests.utils.test_utils import PATIENCE

MIB = 1024 * 1024


@pytest.fixture
def listener(settings: Settings) -> socket.socket:
    return listen(settings.model_copy(update={"host": "127.0.0.1", "port": free_port()})).requests[0]


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


@pytest.mark.parametrize(
    ("host", "reached_at"),
    [
        ("127.0.0.1", {"127.0.0.1"}),
        ("0.0.0.0", {"127.0.0.1"}),  # This is what is tested.
        ("::1", {"::1"}),
        ("[::1]", {"::1"}),
        ("::", {"127.0.0.1", "::1"}),
    ],
)
def test_an_address_is_reached_by_its_families(host: str, reached_at: set[str]) -> None:
    port = free_port()
    listeners = listen(Settings(_env_file=None, host=host, port=port))
    assert {address for address in ("127.0.0.1", "::1") if answers(address, port)} == reached_at
    # IPv4 clients are seen as such.
    assert not any(takes_both(listener) for listener in listeners.requests)
    listeners.close()
    assert not any(answers(address, port) for address in ("127.0.0.1", "::1"))


def answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=PATIENCE).close()
    except OSError:
        return False
    return True


def takes_both(listener: socket.socket) -> bool:
    ipv6 = listener.family is socket.AF_INET6
    return ipv6 and not listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def resolving(*addresses: str) -> Callable[..., list[tuple[Any, ...]]]:
    """A name that has these addresses, one of them twice."""
    found = [(socket.AF_INET6 if ":" in one else socket.AF_INET, one) for one in (*addresses, addresses[0])]
    return lambda _host, port, *_, **__: [(family, socket.SOCK_STREAM, 6, "", (one, port)) for family, one in found]


def test_a_name_is_listened_on_at_all_its_addresses(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    # The last one is nobody's here, as `::1` is where IPv6 is turned off.
    monkeypatch.setattr(socket, "getaddrinfo", resolving("127.0.0.1", "127.0.0.2", "192.0.2.1"))
    port = free_port()
    listeners = listen(settings.model_copy(update={"host": "hive.internal", "port": port}))
    assert [listener.getsockname() for listener in listeners.requests] == [("127.0.0.1", port), ("127.0.0.2", port)]
    listeners.close()


def test_a_name_with_one_taken_address_is_refused_whole(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving("127.0.0.1", "127.0.0.2"))
    with socket.create_server(("127.0.0.2", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(CommandError, match=f"can't listen on hive.internal:{port}: Address already in use"):
            listen(settings.model_copy(update={"host": "hive.internal", "port": port}))
    monkeypatch.undo()
    assert not answers("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "nowhere.invalid"])
def test_an_address_of_another_machine_is_refused_in_a_sentence(settings: Settings, host: str) -> None:
    with pytest.raises(CommandError) as refused:
        listen(settings.model_copy(update={"host": host, "port": 8000}))
    told = str(refused.value)
    assert told.startswith(f"can't listen on {authority(host, 8000)}: ")
    assert told.endswith(". Set HOST or PORT.")
    assert "[Errno" not in told


def test_listeners_are_handed_over_by_their_descriptors(settings: Settings) -> None:
    listeners = listen(settings.model_copy(update={"metrics_port": free_port(), "port": free_port()}))
    # As after exec: the numbers are there, and no object has them.
    numbers = [os.dup(descriptor) for descriptor in listeners.descriptors]
    words = f"{numbers[0]}:{numbers[1]}"
    inherited = Listeners.inherited(words)

    try:
        assert inherited.in_words() == words
        assert [each.getsockname() for each in (*inherited.requests, *inherited.scrapers)] == [
            each.getsockname() for each in (*listeners.requests, *listeners.scrapers)
        ]
    finally:
        inherited.close()
        listeners.close()


@pytest.mark.parametrize("words", ["", "3", "a:b", "1:2:3", "999999:", "-1:"])
def test_what_is_no_descriptor_is_refused_in_a_sentence(words: str) -> None:
    with pytest.raises(CommandError, match="hands over its sockets"):
        Listeners.inherited(words)
