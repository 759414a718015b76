"""One running instance of a service: where it stands, what it serves, who it is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor import ServiceDescriptor

from grpc_common.policy import MethodPolicy, PolicyError, service_policies
from localmesh import ports
from localmesh.certificates import Identity
from localmesh.descriptors import find_service
from localmesh.failure import UsageError
from localmesh.intent.http_route import HttpRoute, http_routes_of
from localmesh.intent.route import Route, route_of
from localmesh.topology import Service, Topology


@dataclass(frozen=True, kw_only=True)
class Workload:
    """An instance of a service with its sidecar; the ports are of the loopback address."""

    name: str
    """The service's name, with `-2`, `-3` and so on for further replicas."""
    service_name: str
    service: Service
    grpc: tuple[ServiceDescriptor, ...]
    routes: tuple[Route, ...]
    http: tuple[HttpRoute, ...]
    socket: Path
    """Where the service listens for gRPC."""
    http_socket: Path
    """Where it listens for HTTP, if it has routes of that."""
    outbound: Path
    """Where its sidecar takes what the service calls."""
    identity: Identity
    metrics_port: int
    inbound_port: int
    admin_port: int


def workloads(
    topology: Topology, replicas: Mapping[str, int], *, sockets: Path, certificates: Path
) -> Iterator[Workload]:
    """All instances of a topology, in its order; a service without an entry in `replicas` has one."""
    for service_name, service in topology.services.items():
        grpc = tuple(find_service(name) for name in service.grpc)
        routes = routes_of(service)
        _check_calls(topology, service_name)
        for number in range(1, replicas.get(service_name, 1) + 1):
            name = service_name if number == 1 else f"{service_name}-{number}"
            yield Workload(
                name=name,
                service_name=service_name,
                service=service,
                grpc=grpc,
                routes=routes,
                http=tuple(http_routes_of(service)),
                socket=sockets / f"{name}.sock",
                http_socket=sockets / f"{name}-http.sock",
                outbound=sockets / f"{name}-outbound.sock",
                identity=Identity(name, certificates / name),
                metrics_port=ports.free_port(),
                inbound_port=ports.free_port(),
                admin_port=ports.free_port(),
            )


def routes_of(service: Service) -> tuple[Route, ...]:
    """The routes to all methods of a service."""
    return tuple(map(route_of, policies_of(service)))


def policies_of(service: Service) -> Iterator[MethodPolicy]:
    """The policies of all methods of a service."""
    try:
        for name in service.grpc:
            yield from service_policies(find_service(name)).values()
    except PolicyError as error:
        raise UsageError(str(error)) from error


def callees(workload: Workload, everyone: Sequence[Workload]) -> dict[str, tuple[Workload, ...]]:
    """The services a workload calls, each with its instances; one that does not run has none."""
    return {name: tuple(each for each in everyone if each.service_name == name) for name in workload.service.calls}


def reached(topology: Topology, workload: Workload, everyone: Sequence[Workload]) -> dict[str, tuple[Workload, ...]]:
    """The services a workload reaches through its sidecar: those it calls, and the one whose keys it verifies with."""
    found = callees(workload, everyone)
    if (issuer := topology.issuer) != workload.service_name:
        found.setdefault(issuer, tuple(each for each in everyone if each.service_name == issuer))
    return found


def _check_calls(topology: Topology, name: str) -> None:
    """A service that says it calls another one which lets it call nothing has a policy to change, or a line to lose."""
    service = topology.services[name]
    for called in service.calls:
        callers = {caller for route in routes_of(topology.services[called]) for caller in route.callers}
        if service.account not in callers and service.account not in topology.observers:
            raise UsageError(
                f"{name} calls {called}, but no RPC of that names {service.account} in its policy's callers"
            )
