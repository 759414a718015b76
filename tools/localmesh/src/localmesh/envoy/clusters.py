"""The other ends Envoy connects to, over HTTP/2."""

from collections.abc import Iterable

from localmesh.envoy.config import Config, seconds, typed

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

CHECK_EVERY = 0.5
CHECK_AGAIN_AFTER = 0.25
CHECKS_TO_BE_ILL = 2
NOTICED_WITHIN = CHECK_EVERY + (CHECKS_TO_BE_ILL - 1) * CHECK_AGAIN_AFTER
"""Seconds until nothing more is sent to an instance that says NOT_SERVING, where the checks are answered at once."""


def cluster(
    name: str, addresses: Iterable[Config], *, transport_socket: Config | None = None, health_of: str | None = None
) -> Config:
    """Fixed addresses that speak HTTP/2; with `health_of`, only those where that gRPC service is SERVING."""
    endpoints = [{"endpoint": {"address": address}} for address in addresses]
    result: Config = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": seconds(2),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        # with nobody healthy a call fails at once instead of being sent to somebody ill
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: typed(_HTTP_OPTIONS, explicit_http_config={"http2_protocol_options": {}})
        },
    }
    if transport_socket is not None:
        result["transport_socket"] = transport_socket
    if health_of is not None:
        result["health_checks"] = [_health_check(health_of)]
    return result


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
