"""What a service asks of others goes out through its sidecar: mutual TLS, to whoever is healthy."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from localmesh.envoy import routes, tls
from localmesh.envoy.clusters import replicas
from localmesh.envoy.config import Config, listener, tcp, unix
from localmesh.envoy.http import Tracer, connection_manager, virtual_host
from localmesh.envoy.replies import deadline_replies
from localmesh.intent.http_route import http_routes_of
from localmesh.intent.route import Hop
from localmesh.topology import Topology
from localmesh.workload import Workload, routes_of

EDGE_ALONE: Final = ["x-envoy-external-address", "x-forwarded-for"]
"""What nobody but the ingress may say: where a call comes from."""


def outbound(topology: Topology, workload: Workload, others: Iterable[str], tracer: Tracer) -> Config:
    """The listener for the service itself, on a Unix socket: whoever can open it speaks with the service's certificate.

    Methods are told apart by their paths; pages, health and reflection of `X` stand under the authority `X`.
    """
    methods = [
        route
        for name in workload.service.calls
        for route in routes.methods(routes_of(topology.services[name]), name, Hop.OUTBOUND)
    ]

    def inside(name: str) -> Iterator[Config]:
        yield from methods
        yield from routes.pages(http_routes_of(topology.services[name]), name, Hop.OUTBOUND)
        yield from routes.observation(name, Hop.OUTBOUND)

    named = [virtual_host(name, [name, f"{name}.localhost"], inside(name)) for name in others]
    default = virtual_host("default", ["*"], methods)
    manager = connection_manager(
        "outbound",
        codec_type="AUTO",  # who fetches a page may speak HTTP/1.1
        filters=[],
        local_reply_config=deadline_replies(),
        hosts=[host | {"request_headers_to_remove": EDGE_ALONE} for host in (*named, default)],
        tracer=tracer,
    )
    return listener("outbound", unix(workload.outbound), manager)


def destinations(topology: Topology, workload: Workload, others: Mapping[str, Sequence[Workload]]) -> Iterable[Config]:
    """The services it reaches, each known by its SPIFFE id."""
    for name, group in others.items():
        service = topology.services[name]
        transport = tls.mutual_client(workload.identity, server=topology.spiffe_id(service.account))
        addresses = [tcp(each.inbound_port) for each in group]
        yield replicas(
            name,
            addresses,
            health_of=service.grpc[0],
            connection_seconds=topology.connection_seconds,
            transport_socket=transport,
        )
