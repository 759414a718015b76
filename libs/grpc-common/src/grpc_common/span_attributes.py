"""The names of what spans say: OpenTelemetry's semantic conventions 1.45, in which those of RPC are stable, and ours.

They stand here as texts, because the conventions' own package for Python ends at 1.44 and names the status otherwise.
"""

from collections.abc import Mapping
from typing import Final

from opentelemetry.util.types import AttributeValue

from grpc_common.shown_url import shown_path

SCHEMA: Final = "https://opentelemetry.io/schemas/1.45.0"
"""Tells whoever receives spans which names to expect."""

GRPC: Final = "grpc"
OTHER: Final = "_OTHER"
"""What the conventions call a method that the process does not know, so that names stay few."""

RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
"""Fully qualified: "package.Service/Method"."""
RPC_METHOD_ORIGINAL: Final = "rpc.method_original"
RPC_STATUS: Final = "rpc.status_code"
"""A name, such as "OK" or "NOT_FOUND"."""
ERROR_TYPE: Final = "error.type"
"""The status, where that is an error: for a client all but OK are, for a server those that are its own fault."""
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

CORRELATION_ID: Final = "meshwork.correlation_id"
ERROR_ID: Final = "meshwork.error.id"
ERROR_REASON: Final = "meshwork.error.reason"
"""The stable code of an error, such as "ITEM_NOT_FOUND"; the status is only its kind."""
REQUESTS: Final = "meshwork.rpc.requests"
RESPONSES: Final = "meshwork.rpc.responses"
ATTEMPTS: Final = "meshwork.rpc.attempts"
ATTEMPT: Final = "meshwork.rpc.attempt"
HEDGES: Final = "meshwork.rpc.hedges"
PAUSE: Final = "meshwork.rpc.pause"
"""Seconds."""
DEADLINE_GIVEN: Final = "meshwork.rpc.deadline.given"
"""Seconds."""
DEADLINE_LEFT: Final = "meshwork.rpc.deadline.left"
"""Seconds."""


def span_name(method: str) -> str:
    """Return the name of the span of `method`, "package.Service/Method" or OTHER."""
    return GRPC if method == OTHER else method


def original(path: str) -> str:
    """Return "/package.Service/Method" as a span may show it, however it was made up."""
    return shown_path(path.encode("ascii", "replace")).removeprefix("/")


def server(address: str, port: int | None) -> Mapping[str, AttributeValue]:
    """Return the attributes of a server's address; the path of a Unix socket goes without a port, "" is no address."""
    if not address:
        return {}
    return {SERVER_ADDRESS: address} if port is None else {SERVER_ADDRESS: address, SERVER_PORT: port}
