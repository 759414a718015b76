"""The status of a mesh, out of its processes."""

from collections.abc import Iterable

from localmesh import ports
from localmesh.processes import Processes
from localmesh.state import StateFolder
from localmesh.status import IngressStatus, PartStatus, ServiceStatus, SidecarStatus, Status
from localmesh.workload import Workload


def status_of(processes: Processes, state: StateFolder, *, complete: bool) -> Status:
    """How everything is now; `complete` says that the start is over and the end has not begun."""
    return Status(
        ready=complete and all(unit.ready for unit in processes.units),
        ingress=IngressStatus(
            pid=processes.ingress.pid,
            grpc=f"localhost:{processes.gate.port}",
            rest=f"https://localhost:{processes.gate.port}",
            ca=str(state.ca),
        ),
        services=tuple(_service(processes, each) for each in processes.workloads),
        parts=tuple(_parts(processes)),
    )


def _service(processes: Processes, workload: Workload) -> ServiceStatus:
    unit = processes.services[workload.name]
    side = processes.sidecars.get(workload.name)
    sidecar = None
    if side is not None:
        inbound, admin = (f"{ports.LOOPBACK}:{port}" for port in (workload.inbound_port, workload.admin_port))
        sidecar = SidecarStatus(pid=side.pid, inbound=inbound, admin=admin)
    return ServiceStatus(
        name=workload.name,
        ready=unit.ready and (side is None or side.ready),
        pid=unit.pid,
        grpc=f"unix:{workload.socket}",
        http=f"https://localhost:{processes.gate.port}" if workload.http else None,
        metrics=f"http://{ports.LOOPBACK}:{workload.metrics_port}/metrics",
        sidecar=sidecar,
        restarts=unit.restarts,
    )


def _parts(processes: Processes) -> Iterable[PartStatus]:
    for part in processes.parts:
        unit = part.unit
        yield PartStatus(name=part.name, ready=unit.ready, pid=unit.pid, address=part.address, version=part.version)
