"""Where a call comes from."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, Final
from urllib.parse import unquote

EXTERNAL: Final = "x-envoy-external-address"
"""The address that an Envoy at the edge of a mesh was called from; what callers say there it throws away."""
FORWARDED: Final = "x-forwarded-for"
"""What callers say, and at its end what the Envoy at the edge has seen."""
SITE_BITS: Final = 64
"""Whoever has one address of IPv6 has all that begin with the same 64 bits (RFC 4291 §2.5.4, RFC 6177 §2)."""

type Headers = Iterable[tuple[str, str | bytes]]


def client_address(context: Any, *, behind_mesh: bool = False) -> str:
    """Return the IP address of who called, or "" when nobody knows.

    Proxies are believed where none but our own sidecar can connect: on a Unix socket and, `behind_mesh`, from a
    loopback address. Who connects in another way is known by the address of the connection, whatever the headers say.
    """
    return address_of(str(context.peer()), context.invocation_metadata() or (), behind_mesh=behind_mesh)


def address_of(peer: str, headers: Headers, *, behind_mesh: bool = False) -> str:
    """Return the address of a caller with that peer, as gRPC writes it, and those headers in lower case."""
    kind, _, rest = peer.partition(":")
    if kind == "unix":
        return told_address(headers)
    address = _parse(unquote(rest).rpartition(":")[0].strip("[]")) if kind in {"ipv4", "ipv6"} else None
    if address is None:
        return ""
    return told_address(headers) if behind_mesh and address.is_loopback else str(address)


def told_address(headers: Headers) -> str:
    """Return what our own sidecar says in the headers of a call; "" when it says nothing that is an address."""
    external = forwarded = ""
    for name, value in headers:
        if name == EXTERNAL and isinstance(value, str):
            external = value
        elif name == FORWARDED and isinstance(value, str):
            forwarded = value
    address = _parse((external or forwarded.rpartition(",")[2]).strip())
    return "" if address is None else str(address)


def network_of(address: str) -> str:
    """Return what counts as one caller: an address of IPv4, the /64 of one of IPv6, and other text as it is."""
    parsed = _parse(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed.packed, SITE_BITS), strict=False))
    return address if parsed is None else str(parsed)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(text)
    except ValueError:
        return None
    return parsed.ipv4_mapped or parsed if isinstance(parsed, IPv6Address) else parsed
