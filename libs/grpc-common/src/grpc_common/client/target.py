"""Where calls go: the addresses gRPC understands, refused early where it would only fail late."""

import ipaddress
from dataclasses import dataclass
from typing import Final

from grpc_common.loopback import is_loopback

_BY_ADDRESS: Final = frozenset({"ipv4", "ipv6"})
_SOCKETS: Final = ("unix-abstract:", "vsock:")
_OTHERS: Final = frozenset({"unix-abstract", "vsock", "xds", "passthrough"})


class TargetError(ValueError):
    """A target that no call could ever reach; the message says what one looks like."""


@dataclass(frozen=True, slots=True)
class Target:
    """A target as gRPC core takes it, and what of it can be tried by hand."""

    uri: str
    host: str = ""
    """Without brackets; "" for a Unix socket and for names that only core can resolve."""
    port: int = 0
    unix_path: str = ""

    @property
    def on_this_machine(self) -> bool:
        """Whether calls do not leave it."""
        return bool(self.unix_path) or self.uri.startswith(_SOCKETS) or is_loopback(self.host)

    @property
    def server(self) -> tuple[str, int | None]:
        """Who is called, as OpenTelemetry's conventions for gRPC have it: host and port, or the path of a Unix socket.

        The whole target where it is neither: one that only core can resolve, or a list of addresses.
        """
        if self.unix_path:
            return self.unix_path, None
        return (self.host, self.port) if self.host and "," not in self.uri else (self.uri, None)


def read_target(text: str) -> Target:
    """Read "host:port", "dns:///host:port", "ipv4:…", "ipv6:…" or "unix:/path"; a bare name is asked of DNS.

    Raises TargetError.
    """
    if not text or text != text.strip() or any(character.isspace() for character in text):
        raise TargetError(f"{text!r} is no target: write host:port, such as items:50051, or unix:/run/items.sock")
    scheme, colon, rest = text.partition(":")
    if colon and scheme == "unix":
        path = rest.removeprefix("//")
        if not path:
            raise TargetError(f"{text!r} names no socket: write unix:/run/items.sock")
        return Target(f"unix:{path}", unix_path=path)
    if colon and scheme in _OTHERS:
        return Target(text)
    if colon and scheme in _BY_ADDRESS:
        host, port = _split(text, rest.partition(",")[0])
        return Target(text, host, port)
    if colon and scheme == "dns":
        rest = rest.rpartition("/")[2]
    elif "/" in text:
        raise TargetError(f"{text!r} is no target: write host:port without a path or a scheme such as https")
    host, port = _split(text, rest if scheme == "dns" and colon and not rest.isdigit() else text)
    return Target(text if scheme == "dns" and text != f"dns:{port}" else f"dns:///{text}", host, port)


def _split(text: str, address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError as error:
            raise TargetError(f"{text!r} has no valid IPv6 address in its brackets") from error
    elif ":" in host:
        raise TargetError(f"{text!r} is no target: an IPv6 address stands in brackets, such as [::1]:50051")
    if not colon or not host:
        raise TargetError(f"{text!r} has no port: write host:port, such as items:50051")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise TargetError(f"{text!r} has no valid port: it is a number from 1 to 65535")
    return host, int(port)
