"""The other ends Envoy connects to: over HTTP/2, but for the pages of a service beside it."""

from collections.abc import Iterable

from grpc_common.metadata_size import MAX_METADATA
from localmesh.envoy.config import ONE_STREAM, Config, seconds, tcp, typed
from localmesh.envoy.http import TRACES, Tracer

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

CHECK_EVERY = 0.5
CHECK_AGAIN_AFTER = 0.25
CHECKS_TO_BE_ILL = 2
NOTICED_WITHIN = CHECK_EVERY + (CHECKS_TO_BE_ILL - 1) * CHECK_AGAIN_AFTER
"""Seconds until nothing more is sent to an instance that says NOT_SERVING, where the checks are answered at once."""

FAILURES_TO_BE_CAST_OUT = 5
CAST_OUT_FOR, CAST_OUT_FOR_AT_MOST = 2.0, 30.0
APART: Config = {**ONE_STREAM, "hpack_table_size": 0}
"""For connections to services themselves: no table of headers that calls share. One call with a `grpc-timeout` that
gRPC's core cannot read would spoil the entry, and with it the calls of all others, checks of health included."""
RETRIES = {"budget_percent": {"value": 20}, "min_retry_concurrency": 5}
"""Of the calls under way, so that retries cannot grow into a storm."""


def cluster(
    name: str,
    addresses: Iterable[Config],
    *,
    transport_socket: Config | None = None,
    connection_seconds: float | None = None,
) -> Config:
    """Fixed addresses that speak HTTP/2; a connection takes new calls for `connection_seconds`, if that is given."""
    common: Config = {"max_response_headers_kb": MAX_METADATA // 1024}
    if connection_seconds is not None:
        common["max_connection_duration"] = seconds(connection_seconds)
    http: Config = {
        "explicit_http_config": {"http2_protocol_options": APART if transport_socket is None else ONE_STREAM},
        "common_http_protocol_options": common,
    }
    endpoints = [{"endpoint": {"address": address}} for address in addresses]
    result: Config = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": seconds(2),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "typed_extension_protocol_options": {_HTTP_OPTIONS: typed(_HTTP_OPTIONS, **http)},
    }
    if transport_socket is not None:
        result["transport_socket"] = transport_socket
    return result


def replicas(
    name: str,
    addresses: Iterable[Config],
    *,
    health_of: str,
    connection_seconds: float,
    transport_socket: Config | None = None,
) -> Config:
    """The instances of a service: a call goes to one that is SERVING, does not keep failing, and has least to do.

    `health_of` is the gRPC service whose health counts. A connection is made anew after `connection_seconds`, so that
    nobody is believed for long who has no good certificate any more.
    """
    common = cluster(name, addresses, transport_socket=transport_socket, connection_seconds=connection_seconds)
    return common | {
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {
            # with nobody healthy a call fails at once instead of being sent to somebody ill
            "healthy_panic_threshold": {"value": 0},
            # else what a health check found reaches those who choose an instance up to a second late
            "update_merge_window": seconds(0),
        },
        "health_checks": [_health_check(health_of)],
        "outlier_detection": _outliers(),
        "circuit_breakers": {"thresholds": [{"max_requests": 10_000, "retry_budget": RETRIES}]},
    }


def pages(name: str, sockets: Iterable[Config]) -> Config:
    """Services beside us that speak HTTP/1.1.

    Each request has a connection of its own: one that is kept may be closed by the server, who has enough of waiting,
    at the moment it is used again, and a request of which nobody knows how far it came cannot be repeated.
    """
    http: Config = {
        "explicit_http_config": {"http_protocol_options": {}},
        "common_http_protocol_options": {"max_requests_per_connection": 1},
    }
    return cluster(name, sockets) | {"typed_extension_protocol_options": {_HTTP_OPTIONS: typed(_HTTP_OPTIONS, **http)}}


def traces(tracer: Tracer) -> Config:
    """Where spans are sent."""
    return cluster(TRACES, [tcp(tracer.port)])


def _health_check(service: str) -> Config:
    return {
        "timeout": seconds(2),
        "interval": seconds(CHECK_EVERY),
        "no_traffic_interval": seconds(CHECK_EVERY),
        "unhealthy_interval": seconds(CHECK_AGAIN_AFTER),
        "unhealthy_threshold": CHECKS_TO_BE_ILL,
        "healthy_threshold": 1,
        "grpc_health_check": {"service_name": service},
    }


def _outliers() -> Config:
    """Casts out who cannot be reached or answers UNAVAILABLE again and again; never more than half, never the only one.

    Other errors are the business of the method that makes them, not of the instance.
    """
    return {
        "interval": seconds(0.5),
        "base_ejection_time": seconds(CAST_OUT_FOR),
        "max_ejection_time": seconds(CAST_OUT_FOR_AT_MOST),
        "max_ejection_percent": 50,
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": FAILURES_TO_BE_CAST_OUT,
        "enforcing_consecutive_local_origin_failure": 100,
        "consecutive_gateway_failure": FAILURES_TO_BE_CAST_OUT,
        "enforcing_consecutive_gateway_failure": 100,
        "enforcing_consecutive_5xx": 0,
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "enforcing_failure_percentage": 0,
    }
