"""grpcurl and grpc-health-probe, as strangers use them, through the ingress of a running mesh."""

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh_command import MeshCommand

SERVICE = "meshwork.items.v1.ItemService"
AUTHORITY = "items.localhost"
WITHIN = 60


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshCommand]:
    command = MeshCommand(tmp_path_factory.mktemp("mesh"))
    command.up()
    yield command
    assert command("down")[0] == 0


class Tool:
    """A program, and what it says of the mesh."""

    def __init__(self, program: Path, *always: str) -> None:
        self._command = (str(program), *always)

    def __call__(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(  # noqa: S603
            [*self._command, *arguments], capture_output=True, text=True, timeout=WITHIN, check=False
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def grpcurl(programs: Path, mesh: MeshCommand) -> Tool:
    token = f"authorization: Bearer {mesh.token()}"
    return Tool(programs / "grpcurl", "-cacert", str(mesh.state / "ca.pem"), "-H", token)


@pytest.fixture
def probe(programs: Path, mesh: MeshCommand) -> Tool:
    ca = f"-tls-ca-cert={mesh.state / 'ca.pem'}"
    limits = ("-connect-timeout=30s", "-rpc-timeout=30s")
    return Tool(programs / "grpc-health-probe", f"-addr=localhost:{mesh.port}", "-tls", ca, *limits)


def test_grpcurl_lists_and_describes_what_is_served(grpcurl: Tool, mesh: MeshCommand) -> None:
    address = f"localhost:{mesh.port}"
    status, listed = grpcurl("-authority", AUTHORITY, address, "list")
    assert status == 0, listed
    assert {SERVICE, "grpc.health.v1.Health"} <= set(listed.split())
    status, described = grpcurl("-authority", AUTHORITY, address, "describe", f"{SERVICE}.GetItem")
    assert status == 0, described
    assert "rpc GetItem ( .meshwork.items.v1.GetItemRequest ) returns ( .meshwork.items.v1.Item )" in described


def test_grpcurl_calls_and_shows_the_details_of_an_error(grpcurl: Tool, mesh: MeshCommand) -> None:
    address = f"localhost:{mesh.port}"
    body = json.dumps({"name": "Kettle", "sku": f"KIT-{uuid.uuid4()}", "quantity": 3, "price": 29.5})
    status, made = grpcurl("-authority", AUTHORITY, "-d", body, address, f"{SERVICE}/CreateItem")
    assert status == 0, made
    status, stream = grpcurl("-authority", AUTHORITY, "-d", "{}", address, f"{SERVICE}/ListItems")
    assert status == 0, stream
    assert json.loads(made)["id"] in stream
    status, refused = grpcurl("-authority", AUTHORITY, "-d", '{"id": "none"}', address, f"{SERVICE}/GetItem")
    assert status != 0
    assert "Code: NotFound" in refused
    assert "google.rpc.ErrorInfo" in refused


def test_grpc_health_probe_tells_services_apart(probe: Tool) -> None:
    for service in ("", SERVICE):
        status, said = probe(f"-tls-server-name={AUTHORITY}", f"-service={service}")
        assert (status, "status: SERVING" in said) == (0, True), said
    status, said = probe(f"-tls-server-name={AUTHORITY}", "-service=nobody.v1.Service")
    assert status != 0
    assert "NOT_FOUND" in said or "NotFound" in said or "unknown service" in said, said
