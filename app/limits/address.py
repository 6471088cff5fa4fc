"""Which address a request comes from, as far as it can be believed."""

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

# A client at a socket in the file system has no address.
LOCAL = "local"

Address = IPv4Address | IPv6Address
# `local` stands for a proxy that comes by a socket in the file system.
TrustedProxies = Collection[IPv4Network | IPv6Network | str]


def client_of(scope: Mapping[str, Any], trusted: TrustedProxies) -> str:
    """Whom the requests of an ASGI connection are counted for.

    That is its peer, or whom `X-Forwarded-For` names if the peer is a trusted proxy. Of IPv6 the first half counts, for
    each customer has all of the other one.
    """
    peer = _peer_of(scope)
    address = peer
    if _is_trusted(peer, trusted):
        address = _last_stranger(_forwarded_for(scope["headers"]), trusted) or peer
    return LOCAL if address is None else _name_of(address)


@lru_cache(maxsize=1024)
def _name_of(address: Address) -> str:
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)


def is_trusted_peer(scope: Mapping[str, Any], trusted: TrustedProxies) -> bool:
    """Whether an ASGI connection comes by way of a proxy that is believed."""
    return _is_trusted(_peer_of(scope), trusted)


def _peer_of(scope: Mapping[str, Any]) -> Address | None:
    client = scope.get("client")
    return _read(client[0]) if client else None


def _forwarded_for(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """All that the proxies have noted, in their order. Several fields are one list."""
    fields = (value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for")
    return [entry for field in fields for entry in field.split(",")]


def _last_stranger(entries: list[str], trusted: TrustedProxies) -> Address | None:
    """The last address that is no proxy of ours, or the first one if all are; None if that can't be read.

    What stands before it was written by the sender of the request, and is not looked at.
    """
    found = None
    for entry in reversed(entries):
        found = _read(_without_port(entry.strip()))
        if found is None or not _is_trusted(found, trusted):
            break
    return found


def _without_port(entry: str) -> str:
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry


@lru_cache(maxsize=1024)
def _read(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # A server that listens for both kinds sees IPv4 in the clothes of IPv6.
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _is_trusted(address: Address | None, trusted: TrustedProxies) -> bool:
    if address is None:
        return LOCAL in trusted
    return any(address in network for network in trusted if not isinstance(network, str))
