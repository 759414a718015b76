"""The sidecar of a workload: what comes in must be from the mesh and allowed by the policy."""

from localmesh.envoy import rbac, routes, tls
from localmesh.envoy.clusters import cluster
from localmesh.envoy.config import Config, bootstrap, listener, unix
from localmesh.envoy.http import connection_manager, virtual_host
from localmesh.topology import Topology
from localmesh.workload import Workload

SLACK = 2.0
SERVICE = "service"


def sidecar(topology: Topology, workload: Workload) -> Config:
    """The configuration of the sidecar: mutual TLS in, the service's Unix socket out."""
    inbound = connection_manager(
        "inbound",
        codec_type="HTTP2",
        # what the caller says about certificates is thrown away, what its own certificate says is put there
        forward_client_cert_details="SANITIZE_SET",
        set_current_client_cert_details={"uri": True},
        filters=[rbac.access(topology, workload.policies)],
        hosts=[
            virtual_host(
                "service",
                ["*"],
                [
                    *routes.methods(workload.policies, SERVICE, slack=SLACK, retries=False),
                    *routes.observation(SERVICE),
                ],
            )
        ],
    )
    transport = tls.mutual_server(workload.identity, trust_domain=topology.trust_domain)
    return bootstrap(
        f"{workload.name}-sidecar",
        workload.admin_port,
        [listener("inbound", workload.inbound_port, inbound, transport)],
        [cluster(SERVICE, [unix(workload.socket)])],
    )
