"""What does not leave this machine, and so goes by no proxy."""

import ipaddress
from typing import Final

NO_PROXY: Final = ("grpc.enable_http_proxy", 0)
"""The channel argument that lets core ignore `grpc_proxy`, `https_proxy` and `http_proxy`."""


def is_loopback(host: str) -> bool:
    """Say whether `host` is an address of the loopback interface, with brackets or without, or a name for one.

    Such are `localhost` and all names below it (RFC 6761 §6.3).
    """
    name = host.removeprefix("[").removesuffix("]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return f".{name.lower().removesuffix('.')}".endswith(".localhost")
