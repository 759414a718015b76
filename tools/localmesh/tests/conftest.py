"""What several tests of the local mesh need."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from localmesh import topology
from localmesh.topology import Service, Topology
from localmesh.workload import Workload, workloads
from meshwork.auth.v1 import auth_service_pb2  # noqa: F401 - the topology names its service
from meshwork.items.v1 import items_service_pb2  # noqa: F401 - the topology names its service

AUTH = Service(
    module="auth.main",
    env_prefix="AUTH_",
    grpc=("meshwork.auth.v1.AuthService",),
    account="auth",
    http={"/.well-known/": ("*",), "/oauth2/": ("ingress",), "/internal/": ("items",)},
    transit="access",
)


@pytest.fixture
def described() -> Topology:
    read = topology.read(topology.IN_THE_TREE)
    return replace(read, tokens=replace(read.tokens, service="auth"), services={**read.services, "auth": AUTH})


@pytest.fixture
def make_workloads(described: Topology, tmp_path: Path) -> Callable[..., tuple[Workload, ...]]:
    def make(**replicas: int) -> tuple[Workload, ...]:
        return tuple(workloads(described, replicas, sockets=tmp_path, certificates=tmp_path / "certificates"))

    return make
