"""The sidecar of a workload: what comes in must be from the mesh and allowed by the policy."""

from collections.abc import Sequence

from localmesh.envoy import rbac, routes, tls
from localmesh.envoy.clusters import cluster, pages, traces
from localmesh.envoy.config import HEALTH_CHECK, Config, bootstrap, extension, listener, tcp, unix
from localmesh.envoy.http import Tracer, connection_manager, virtual_host
from localmesh.envoy.outbound import destinations, outbound
from localmesh.envoy.replies import deadline_replies
from localmesh.intent.route import Hop
from localmesh.topology import Topology
from localmesh.workload import Workload, reached

SERVICE, SERVICE_HTTP = "service", "service-http"


def sidecar(topology: Topology, workload: Workload, everyone: Sequence[Workload], traces_port: int) -> Config:
    """The configuration of the sidecar: mutual TLS in, the service's Unix sockets out; and the way of its own calls."""
    tracer = Tracer(f"{workload.name}-sidecar", traces_port)
    transport = tls.mutual_server(workload.identity, trust_domain=topology.trust_domain)
    listeners = [listener("inbound", tcp(workload.inbound_port), _inbound(topology, workload, tracer), transport)]
    clusters = [cluster(SERVICE, [unix(workload.socket)]), traces(tracer)]
    if workload.http:
        clusters.append(pages(SERVICE_HTTP, [unix(workload.http_socket)]))
    if others := reached(topology, workload, everyone):
        listeners.append(outbound(topology, workload, others, tracer))
        clusters += destinations(topology, workload, others)
    return bootstrap(tracer.service, workload.admin_port, listeners, clusters)


def _inbound(topology: Topology, workload: Workload, tracer: Tracer) -> Config:
    inside = [
        *routes.methods(workload.routes, SERVICE, Hop.INBOUND),
        *routes.pages(workload.http, SERVICE_HTTP, Hop.INBOUND),
        *routes.observation(SERVICE, Hop.INBOUND),
    ]
    return connection_manager(
        "inbound",
        codec_type="HTTP2",
        # what the caller says about certificates is thrown away, what its own certificate says is put there
        forward_client_cert_details="SANITIZE_SET",
        set_current_client_cert_details={"uri": True},
        filters=[rbac.access(topology, workload.routes, workload.http), _health()],
        local_reply_config=deadline_replies(),
        hosts=[virtual_host("service", ["*"], inside)],
        tracer=tracer,
    )


def _health() -> Config:
    """Lets the service answer for its health, until this Envoy is told to say that nobody is to call any more."""
    path = {"name": ":path", "string_match": {"exact": HEALTH_CHECK}}
    message = "filters.http.health_check.v3.HealthCheck"
    return extension("envoy.filters.http.health_check", message, pass_through_mode=True, headers=[path])
