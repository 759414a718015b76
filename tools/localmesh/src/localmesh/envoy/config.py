"""The few words of Envoy's configuration that come again everywhere."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from localmesh import ports

type Config = dict[str, Any]
"""A message of Envoy's API, as its JSON form has it."""

NOTES = "rest"
"""Where the filters for REST leave notes (dynamic metadata), and routes say what REST needs to know."""
HEALTH = "/grpc.health.v1.Health/"
HEALTH_CHECK = f"{HEALTH}Check"
MAX_CONNECTIONS = 10_000
ONE_STREAM = {"override_stream_error_on_invalid_http_message": True}
"""For HTTP/2: a message that is none ends its own stream, and not the connection with the calls of all others on it."""
SPANS = {"tracing.opentelemetry.min_flush_spans": 256, "tracing.opentelemetry.flush_interval_ms": 500}
"""Sent by the batch: five spans, which is Envoy's own choice, would be a call of their own for every few calls."""
REFLECTION = ("/grpc.reflection.v1.ServerReflection/", "/grpc.reflection.v1alpha.ServerReflection/")


def extension(name: str, message: str, **fields: Any) -> Config:
    """An extension by its well-known name, and its configuration by the message's name below `envoy.extensions`."""
    return {"name": name, "typed_config": typed(f"envoy.extensions.{message}", **fields)}


def typed(message: str, **fields: Any) -> Config:
    """A `google.protobuf.Any` with a message in it."""
    return {"@type": f"type.googleapis.com/{message}", **fields}


def tcp(port: int) -> Config:
    """A port of the loopback address."""
    return {"socket_address": {"address": ports.LOOPBACK, "port_value": port}}


def unix(path: Path) -> Config:
    """A Unix socket."""
    return {"pipe": {"path": str(path), "mode": 0o600}}


def seconds(amount: float) -> str:
    """A duration, as `google.protobuf.Duration` is written in JSON."""
    return f"{amount:.3f}s"


def listener(name: str, address: Config, connection_manager: Config, transport_socket: Config | None = None) -> Config:
    """A listener that nobody can share; in the clear without a transport socket."""
    chain: Config = {"filters": [connection_manager]}
    if transport_socket is not None:
        chain |= {"transport_socket": transport_socket, "transport_socket_connect_timeout": seconds(10)}
    return {"name": name, "address": address, "enable_reuse_port": False, "filter_chains": [chain]}


def bootstrap(node: str, admin_port: int, listeners: Iterable[Config], clusters: Iterable[Config]) -> Config:
    """A whole configuration without a control plane."""
    return {
        "node": {"id": node, "cluster": node},
        "admin": {"address": tcp(admin_port)},
        "static_resources": {"listeners": list(listeners), "clusters": list(clusters)},
        "overload_manager": {"resource_monitors": [_connection_limit()]},
        "layered_runtime": {"layers": [{"name": "spans", "static_layer": SPANS}]},
    }


def _connection_limit() -> Config:
    message = "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    name = "envoy.resource_monitors.global_downstream_max_connections"
    return extension(name, message, max_active_downstream_connections=MAX_CONNECTIONS)
