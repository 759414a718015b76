"""What several tests of the local mesh need."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from localmesh import topology
from localmesh.topology import Topology
from localmesh.workload import Workload, workloads
from meshwork.auth.v1 import auth_service_pb2  # noqa: F401 - the topology names its service
from meshwork.items.v1 import items_service_pb2  # noqa: F401 - the topology names its service


@pytest.fixture
def described() -> Topology:
    """The topology of the tree, with a page of auth that only items may ask for."""
    read = topology.read(topology.IN_THE_TREE)
    auth = read.services["auth"]
    more = replace(auth, http={**auth.http, "/internal/": ("items",)})
    return replace(read, services={**read.services, "auth": more})


@pytest.fixture
def make_workloads(described: Topology, tmp_path: Path) -> Callable[..., tuple[Workload, ...]]:
    def make(**replicas: int) -> tuple[Workload, ...]:
        return tuple(workloads(described, replicas, sockets=tmp_path, certificates=tmp_path / "certificates"))

    return make
