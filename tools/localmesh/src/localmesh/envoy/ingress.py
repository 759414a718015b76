"""The ingress: TLS and tokens for those outside, mutual TLS to the sidecars."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from grpc_common.metadata_size import MAX_FROM_OUTSIDE
from localmesh.certificates import Identity
from localmesh.envoy import rest, routes, tls, tokens
from localmesh.envoy.browser import cors, cors_filter, grpc_web
from localmesh.envoy.clusters import pages, replicas, traces
from localmesh.envoy.config import HEALTH, NOTES, Config, bootstrap, listener, tcp, unix
from localmesh.envoy.http import Tracer, connection_manager, virtual_host
from localmesh.envoy.identifiers import identifiers
from localmesh.envoy.rate_limit import rate_limit, unlimited
from localmesh.envoy.replies import local_replies
from localmesh.envoy.transcoder import transcoder
from localmesh.intent.http_route import HttpRoute
from localmesh.intent.rest import RestMethod, rest_methods
from localmesh.intent.route import Hop
from localmesh.topology import Topology
from localmesh.workload import Workload

NO_CLUSTER = {"cluster": "nowhere", "cluster_not_found_response_code": "NOT_FOUND"}
NOWHERE = {"match": {"prefix": "/"}, "route": NO_CLUSTER}
"""404. Also the route of a request that will become an RPC, until the transcoder has made it one, and so one of those
whose bodies are read first. CORS wants it to lead to a cluster: a direct response would have no CORS headers."""
NO_METHOD = {"match": {"prefix": "/", **routes.GRPC_OR_WEB}, "route": NO_CLUSTER}
NO_STORE = {"header": {"key": "cache-control", "value": "no-store"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
ENVOYS_OWN = ["x-envoy-immediate-health-check-fail", "x-envoy-upstream-service-time"]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What the ingress needs of its surroundings; ports are of the loopback address."""

    port: int
    admin_port: int
    traces_port: int
    server: Identity
    client: Identity
    sidecars: bool = True
    """Without, it talks to the services' sockets in the clear."""

    def http_cluster(self, service: str) -> str:
        """What the HTTP of a service is reached by: its sidecars take it as they take gRPC."""
        return service if self.sidecars else f"{service}-http"


def ingress(topology: Topology, gate: Gate, workloads: Sequence[Workload]) -> Config:
    """The configuration of the ingress; health and reflection of `X` stand under the authority `X.localhost`."""
    groups = {name: tuple(group) for name, group in groupby(workloads, key=lambda each: each.service_name)}
    firsts = [group[0] for group in groups.values()]
    tracer = Tracer("ingress", gate.traces_port)
    services = [service for first in firsts for service in first.grpc]
    front = connection_manager(
        "ingress",
        codec_type="AUTO",
        use_remote_address=True,
        # Less than all behind it: what passes here passes everywhere, with what each proxy adds.
        max_headers=MAX_FROM_OUTSIDE,
        forward_client_cert_details="SANITIZE",
        always_set_request_id_in_response=True,
        filters=[
            identifiers(),
            cors_filter(),
            rest.arrive(topology.tokens.audience),
            grpc_web(),
            rate_limit(topology.ingress.calls_per_second),
            rest.buffered(),
            rest.look(services),
            # The transcoder comes before the tokens, so that a rule about a method holds for its REST form as well.
            transcoder(services),
            tokens.verification(
                topology.tokens,
                tokens.keys_of(topology.issuer, gate.http_cluster(topology.issuer)),
                [route for first in firsts for route in first.routes],
                [page for first in firsts for page in _pages(topology, first)],
            ),
            rest.refuse(services),
        ],
        local_reply_config=local_replies(),
        validate_clusters=False,
        hosts=_hosts(topology, gate, groups),
        tracer=tracer,
    )
    return bootstrap(
        "ingress",
        gate.admin_port,
        [listener("ingress", tcp(gate.port), front, tls.public_server(gate.server))],
        [
            traces(tracer),
            *(_to_service(topology, gate, name, group) for name, group in groups.items()),
            *(
                pages(gate.http_cluster(name), [unix(each.http_socket) for each in group])
                for name, group in groups.items()
                if group[0].http and not gate.sidecars
            ),
        ],
    )


def _pages(topology: Topology, workload: Workload) -> list[HttpRoute]:
    return [page for page in workload.http if page.is_open_to(topology.ingress.account)]


def _hosts(topology: Topology, gate: Gate, groups: Mapping[str, tuple[Workload, ...]]) -> list[Config]:
    by_path = {each.path: each for group in groups.values() for each in rest_methods(group[0].grpc)}
    everywhere = [
        route
        for name, group in groups.items()
        for route in (
            *(_unbuffered(_with_rest(each, by_path)) for each in routes.methods(group[0].routes, name, Hop.INGRESS)),
            *routes.pages(_pages(topology, group[0]), gate.http_cluster(name), Hop.INGRESS),
        )
    ]

    def host(name: str, domains: list[str], observed: str) -> Config:
        observation = map(_uncounted, routes.observation(observed, Hop.INGRESS))
        all_routes = [*everywhere, *map(_unbuffered, (*observation, NO_METHOD)), NOWHERE]
        found = virtual_host(name, domains, all_routes) | {"response_headers_to_remove": ENVOYS_OWN}
        if topology.ingress.origins:
            found["typed_per_filter_config"] = cors(topology.ingress.origins)
        return found

    return [*(host(name, [f"{name}.localhost"], name) for name in groups), host("default", ["*"], next(iter(groups)))]


def _with_rest(route: Config, by_path: Mapping[str, RestMethod]) -> Config:
    """What only REST has: templates of paths, for the access log, and caches on the way."""
    if (method := by_path.get(route["match"]["path"])) is None:
        return route
    route = route | {"metadata": {"filter_metadata": {NOTES: method.templates}}}
    return route | {"response_headers_to_add": [NO_STORE]} if method.secret else route


def _unbuffered(route: Config) -> Config:
    return route | {"typed_per_filter_config": route.get("typed_per_filter_config", {}) | rest.unbuffered()}


def _uncounted(route: Config) -> Config:
    """Health must be seen however much there is to do."""
    match = route["match"]
    if match.get("prefix") == HEALTH or str(match.get("path", "")).startswith(HEALTH):
        return route | {"typed_per_filter_config": unlimited()}
    return route


def _to_service(topology: Topology, gate: Gate, name: str, group: tuple[Workload, ...]) -> Config:
    transport, addresses = None, [unix(each.socket) for each in group]
    if gate.sidecars:
        transport = tls.mutual_client(gate.client, server=topology.spiffe_id(group[0].service.account))
        addresses = [tcp(each.inbound_port) for each in group]
    return replicas(
        name,
        addresses,
        health_of=group[0].service.grpc[0],
        connection_seconds=topology.connection_seconds,
        transport_socket=transport,
    )
