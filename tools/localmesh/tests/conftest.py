"""What several tests of the local mesh need."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass

from localmesh import topology
from localmesh.envoy.config import Config
from localmesh.topology import Topology
from localmesh.workload import Workload, workloads
from meshwork.auth.v1 import auth_service_pb2  # noqa: F401 - the topology names its service
from meshwork.items.v1 import items_service_pb2
from recorded_ingress import RecordedIngress, recorded_ingress
from shelf_service import shelf_workload


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


@pytest.fixture(scope="session")
def only_ingress() -> Iterator[RecordedIngress]:
    """An ingress before services that write down what reaches them: ours, and one that has more of REST."""
    with tempfile.TemporaryDirectory(prefix="ingress-") as name:  # a short one: sockets have short names
        folder, read = Path(name), topology.read(topology.IN_THE_TREE)
        ours = tuple(workloads(read, {}, sockets=folder, certificates=folder / "certificates"))
        with recorded_ingress(read, (*ours, shelf_workload(ours[0], folder)), folder) as found:
            yield found


@pytest.fixture
def front(only_ingress: RecordedIngress) -> RecordedIngress:
    """The same, as if nothing had been called yet."""
    only_ingress.forget()
    return only_ingress


@pytest.fixture
def unguarded() -> Iterator[RecordedIngress]:
    """An ingress that does not look at what comes in, before services."""

    def change(config: Config) -> Config:
        manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        filters = manager["http_filters"]
        manager["http_filters"] = [each for each in filters if each["name"] != "envoy.filters.http.lua.arrive"]
        return config

    with tempfile.TemporaryDirectory(prefix="ingress-") as name:
        folder, read = Path(name), topology.read(topology.IN_THE_TREE)
        ours = tuple(workloads(read, {}, sockets=folder, certificates=folder / "certificates"))
        with recorded_ingress(read, ours, folder, change=change) as found:
            yield found


@pytest.fixture
def front_without_services() -> Iterator[RecordedIngress]:
    """An ingress that finds nobody but who has the keys."""
    with tempfile.TemporaryDirectory(prefix="ingress-") as name:
        folder, read = Path(name), topology.read(topology.IN_THE_TREE)
        ours = tuple(workloads(read, {}, sockets=folder, certificates=folder / "certificates"))
        with recorded_ingress(read, ours, folder, ready=HTTPStatus.SERVICE_UNAVAILABLE) as found:
            yield found


@pytest.fixture
def slow_front() -> Iterator[RecordedIngress]:
    """An ingress that takes few calls."""
    with tempfile.TemporaryDirectory(prefix="ingress-") as name:
        folder, read = Path(name), topology.read(topology.IN_THE_TREE)
        few = replace(read, ingress=replace(read.ingress, calls_per_second=10))
        ours = tuple(workloads(few, {}, sockets=folder, certificates=folder / "certificates"))
        with recorded_ingress(few, ours, folder) as found:
            yield found


@pytest.fixture
def make_channel() -> Callable[[RecordedIngress], grpc.Channel]:
    """Connects to an ingress for gRPC."""

    def make(front: RecordedIngress) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(front.certificate.read_bytes())
        options = [("grpc.ssl_target_name_override", "localhost")]
        return grpc.secure_channel(f"localhost:{front.port}", credentials, options=options)

    return make


@pytest.fixture
def make_items(
    make_channel: Callable[[RecordedIngress], grpc.Channel],
) -> Callable[..., AbstractContextManager[Callable[..., Any]]]:
    """Calls unary methods of items through an ingress, over gRPC."""

    @contextmanager
    def make(front: RecordedIngress, token: str | None = "") -> Iterator[Callable[..., Any]]:
        with make_channel(front) as channel:

            def call(name: str, *, metadata: tuple[tuple[str, str], ...] = ()) -> Any:
                methods = items_service_pb2.DESCRIPTOR.services_by_name["ItemService"].methods_by_name
                answer = GetMessageClass(methods[name].output_type) if name in methods else None
                asked = channel.unary_unary(
                    f"/meshwork.items.v1.ItemService/{name}",
                    response_deserializer=answer.FromString if answer is not None else None,
                )
                sent = ("authorization", f"Bearer {token or front.token()}")
                return asked(b"", timeout=20, metadata=(sent, *metadata))

            yield call

    return make


@pytest.fixture
def curl() -> Callable[..., str]:
    """Asks by curl; returns all that it said."""

    def ask(*arguments: str, text: str) -> str:
        command = ["curl", "-sS", "-k", "--max-time", "20", *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
        return done.stdout + done.stderr

    return ask
