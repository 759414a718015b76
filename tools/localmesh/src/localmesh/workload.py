"""One running instance of a service: where it stands, what it serves, who it is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor import ServiceDescriptor

from grpc_common.policy import MethodPolicy, PolicyError, service_policies
from localmesh import ports
from localmesh.certificates import Identity
from localmesh.descriptors import find_service
from localmesh.failure import UsageError
from localmesh.topology import Service, Topology


@dataclass(frozen=True, kw_only=True)
class Workload:
    """An instance of a service with its sidecar; the ports are of the loopback address."""

    name: str
    """The service's name, with `-2`, `-3` and so on for further replicas."""
    service_name: str
    service: Service
    grpc: tuple[ServiceDescriptor, ...]
    policies: tuple[MethodPolicy, ...]
    socket: Path
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
        policies = tuple(policies_of(grpc))
        for number in range(1, replicas.get(service_name, 1) + 1):
            name = service_name if number == 1 else f"{service_name}-{number}"
            yield Workload(
                name=name,
                service_name=service_name,
                service=service,
                grpc=grpc,
                policies=policies,
                socket=sockets / f"{name}.sock",
                identity=Identity(name, certificates / name),
                metrics_port=ports.free_port(),
                inbound_port=ports.free_port(),
                admin_port=ports.free_port(),
            )


def policies_of(services: tuple[ServiceDescriptor, ...]) -> Iterator[MethodPolicy]:
    """The policies of all methods of the services."""
    try:
        for service in services:
            yield from service_policies(service).values()
    except PolicyError as error:
        raise UsageError(str(error)) from error
