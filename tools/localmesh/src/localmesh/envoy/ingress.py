"""The ingress: TLS and tokens for those outside, mutual TLS to the sidecars."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from localmesh.certificates import Identity
from localmesh.envoy import routes, tls, tokens
from localmesh.envoy.clusters import cluster
from localmesh.envoy.config import Config, bootstrap, listener, tcp, unix
from localmesh.envoy.http import connection_manager, virtual_host
from localmesh.envoy.replies import local_replies
from localmesh.envoy.transcoder import transcoder
from localmesh.topology import Topology
from localmesh.workload import Workload

SLACK = 4.0
"""More than the sidecar's, for the same reason as its own."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What the ingress needs of its surroundings; ports are of the loopback address."""

    port: int
    admin_port: int
    server: Identity
    client: Identity
    jwks: Path
    sidecars: bool = True
    """Without, it talks to the services' sockets in the clear."""


def ingress(topology: Topology, gate: Gate, workloads: Sequence[Workload]) -> Config:
    """The configuration of the ingress; health and reflection of `X` stand under the authority `X.localhost`."""
    groups = {name: tuple(group) for name, group in groupby(workloads, key=lambda each: each.service_name)}
    firsts = [group[0] for group in groups.values()]
    policies = [policy for first in firsts for policy in first.policies]
    services = [service for first in firsts for service in first.grpc]
    front = connection_manager(
        "ingress",
        codec_type="AUTO",
        use_remote_address=True,
        forward_client_cert_details="SANITIZE",
        # The transcoder comes first, so that a rule about a method holds for its REST form as well.
        filters=[transcoder(services), tokens.verification(topology.tokens, gate.jwks, policies)],
        local_reply_config=local_replies(),
        hosts=_hosts(groups),
    )
    return bootstrap(
        "ingress",
        gate.admin_port,
        [listener("ingress", gate.port, front, tls.public_server(gate.server))],
        [_to_service(topology, gate, name, group) for name, group in groups.items()],
    )


def _hosts(groups: Mapping[str, tuple[Workload, ...]]) -> list[Config]:
    everywhere = [
        route
        for name, group in groups.items()
        for route in routes.methods(group[0].policies, name, slack=SLACK, retries=True)
    ]
    named = [virtual_host(name, [f"{name}.localhost"], [*everywhere, *routes.observation(name)]) for name in groups]
    default = next(iter(groups))
    return [*named, virtual_host("default", ["*"], [*everywhere, *routes.observation(default)])]


def _to_service(topology: Topology, gate: Gate, name: str, group: tuple[Workload, ...]) -> Config:
    health_of = group[0].service.grpc[0]
    if not gate.sidecars:
        return cluster(name, [unix(each.socket) for each in group], health_of=health_of)
    server = topology.spiffe_id(group[0].service.account)
    transport = tls.mutual_client(gate.client, server=server)
    return cluster(name, [tcp(each.inbound_port) for each in group], transport_socket=transport, health_of=health_of)
