"""Everything that would be generated for a topology, without anything being started or written."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from localmesh import ports
from localmesh.certificates import Identity
from localmesh.envoy.attempts import attempts
from localmesh.envoy.config import Config
from localmesh.envoy.ingress import Gate, ingress
from localmesh.envoy.sidecar import sidecar
from localmesh.intent.amplification import Layer
from localmesh.topology import Topology
from localmesh.workload import workloads

SOMEWHERE = Path("/nonexistent")


def render(topology: Topology) -> dict[str, Config]:
    """The configuration of each Envoy, by its name."""
    everyone = tuple(workloads(topology, {}, sockets=SOMEWHERE, certificates=SOMEWHERE))
    port, admin, traces = (ports.free_port() for _ in range(3))
    server, client = (Identity(name, SOMEWHERE / name) for name in ("ingress-server", "ingress"))
    gate = Gate(port=port, admin_port=admin, traces_port=traces, server=server, client=client)
    sidecars = {f"{each.name}-sidecar": sidecar(topology, each, everyone, traces) for each in everyone}
    return {"ingress": ingress(topology, gate, everyone)} | sidecars


def ways(topology: Topology, name: str, rendered: Mapping[str, Config]) -> dict[str, Sequence[Layer]]:
    """The ways to a service, by where they begin, as the layers of Envoys a call passes."""
    inbound = Layer("its sidecar", partial(attempts, rendered[f"{name}-sidecar"], "inbound"))
    found = {"from outside": [Layer("ingress", partial(attempts, rendered["ingress"], "ingress")), inbound]}
    for caller, service in topology.services.items():
        if name in service.calls:
            outbound = Layer("caller's sidecar", partial(attempts, rendered[f"{caller}-sidecar"], "outbound"))
            found[f"from {caller}"] = [outbound, inbound]
    return dict(found)
