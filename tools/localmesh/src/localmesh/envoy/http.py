"""What Envoy does with a connection: filters, then routes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from grpc_common.metadata_size import MAX_METADATA
from localmesh.envoy.access_log import access_log
from localmesh.envoy.config import ONE_STREAM, Config, extension, seconds, typed
from localmesh.envoy.spans import TAGS, traced

_NAME = "envoy.filters.network.http_connection_manager"
_MESSAGE = "filters.network.http_connection_manager.v3.HttpConnectionManager"
_OPENTELEMETRY = "envoy.config.trace.v3.OpenTelemetryConfig"
NOBODY = [{"address_prefix": "255.255.255.255", "prefix_len": 32}]
"""An address that no connection comes from. With no addresses at all, Envoy takes everybody for internal."""
TRACES = "traces"
"""The cluster spans are sent to."""


@dataclass(frozen=True)
class Tracer:
    """The name under which an Envoy sends spans, and the port of the loopback address it sends them to."""

    service: str
    port: int


def connection_manager(
    name: str,
    *,
    filters: Iterable[Config],
    hosts: list[Config],
    tracer: Tracer | None = None,
    validate_clusters: bool = True,
    max_headers: int = MAX_METADATA,
    **fields: Any,
) -> Config:
    """A connection manager with what all of ours have in common; `max_headers` is bytes."""
    router = extension("envoy.filters.http.router", "filters.http.router.v3.Router")
    if tracer is not None:
        fields["tracing"] = _tracing(tracer)
        hosts = [host | {"routes": [traced(route) for route in host["routes"]]} for host in hosts]
    return extension(
        _NAME,
        _MESSAGE,
        stat_prefix=name,
        # Nobody is "internal": the x-envoy-* headers that would change time-outs and retries are never believed.
        internal_address_config={"unix_sockets": False, "cidr_ranges": NOBODY},
        normalize_path=True,
        strip_any_host_port=True,
        http2_protocol_options=ONE_STREAM,
        request_headers_timeout=seconds(10),
        max_request_headers_kb=max_headers // 1024,
        access_log=[access_log()],
        http_filters=[*filters, router],
        route_config={"name": name, "virtual_hosts": hosts, "validate_clusters": validate_clusters},
        **fields,
    )


def virtual_host(name: str, domains: Iterable[str], routes: Iterable[Config]) -> Config:
    """What is served under some authorities."""
    return {"name": name, "domains": list(domains), "routes": list(routes)}


def _tracing(tracer: Tracer) -> Config:
    destination = {"envoy_grpc": {"cluster_name": TRACES}, "timeout": seconds(1)}
    config = typed(_OPENTELEMETRY, grpc_service=destination, service_name=tracer.service)
    return {
        "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": config},
        # A caller's span, then one for what is asked of others: so it is seen who calls whom.
        "spawn_upstream_span": True,
        "custom_tags": TAGS,
    }
