"""What Envoy does with a connection: filters, then routes."""

from collections.abc import Iterable
from typing import Any

from localmesh.envoy.access_log import access_log
from localmesh.envoy.config import Config, extension, seconds

_NAME = "envoy.filters.network.http_connection_manager"
_MESSAGE = "filters.network.http_connection_manager.v3.HttpConnectionManager"


def connection_manager(name: str, *, filters: Iterable[Config], hosts: list[Config], **fields: Any) -> Config:
    """A connection manager with what all of ours have in common."""
    router = extension("envoy.filters.http.router", "filters.http.router.v3.Router")
    return extension(
        _NAME,
        _MESSAGE,
        stat_prefix=name,
        # Nobody is "internal": the x-envoy-* headers that would change time-outs and retries are never believed.
        internal_address_config={"unix_sockets": False, "cidr_ranges": []},
        normalize_path=True,
        strip_any_host_port=True,
        request_headers_timeout=seconds(10),
        access_log=[access_log()],
        http_filters=[*filters, router],
        route_config={"name": name, "virtual_hosts": hosts},
        **fields,
    )


def virtual_host(name: str, domains: Iterable[str], routes: Iterable[Config]) -> Config:
    """What is served under some authorities."""
    return {"name": name, "domains": list(domains), "routes": list(routes)}
