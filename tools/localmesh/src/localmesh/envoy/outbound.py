"""What a service calls goes out through its sidecar: mutual TLS, to whoever is healthy."""

from collections.abc import Iterable, Mapping, Sequence

from localmesh.envoy import routes, tls
from localmesh.envoy.clusters import replicas
from localmesh.envoy.config import Config, listener, tcp, unix
from localmesh.envoy.http import Tracer, connection_manager, virtual_host
from localmesh.envoy.replies import deadline_replies
from localmesh.intent.route import Hop
from localmesh.topology import Topology
from localmesh.workload import Workload, routes_of


def outbound(topology: Topology, workload: Workload, callees: Iterable[str], tracer: Tracer) -> Config:
    """The listener for the service itself, on a Unix socket: whoever can open it speaks with the service's certificate.

    Methods are told apart by their paths; health and reflection of `X` stand under the authority `X`.
    """
    methods = [
        route for name in callees for route in routes.methods(routes_of(topology.services[name]), name, Hop.OUTBOUND)
    ]
    named = [virtual_host(name, [name, f"{name}.localhost"], [*methods, *routes.observation(name)]) for name in callees]
    manager = connection_manager(
        "outbound",
        codec_type="HTTP2",
        filters=[],
        local_reply_config=deadline_replies(),
        hosts=[*named, virtual_host("default", ["*"], methods)],
        tracer=tracer,
    )
    return listener("outbound", unix(workload.outbound), manager)


def destinations(topology: Topology, workload: Workload, callees: Mapping[str, Sequence[Workload]]) -> Iterable[Config]:
    """The services it calls, each known by its SPIFFE id."""
    for name, group in callees.items():
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
