"""A mesh for all the tests that only look at it, and meshes of their own for those that break them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from localmesh import ports, topology
from localmesh.issuer import Issuer
from meshwork.items.v1.items_service_pb2_grpc import ItemServiceStub

TOPOLOGY = topology.IN_THE_TREE
RELAYS = Path(__file__).parent / "relay" / "topology.toml"
WITHIN = 120


class MeshCommand:
    """`./mesh` with a state folder and an ingress port of its own."""

    def __init__(self, state: Path, described: Path = TOPOLOGY, env: Mapping[str, str] | None = None) -> None:
        self.state = state
        self.port = ports.free_port()
        self._described = described
        self._env = dict(env or {})

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Starts the command and returns at once."""
        folders = ("--state", str(self.state), "--topology", str(self._described))
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "localmesh", *folders, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **self._env, **(env or {})},
        )

    def __call__(self, *arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """Runs the command to its end; returns exit status, standard output, standard error."""
        with self.start(*arguments, env=env) as process:
            try:
                out, err = process.communicate(timeout=WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return process.returncode, out, err

    def up(self, *arguments: str) -> None:
        """Starts the mesh in the background; fails the test when it does not get ready."""
        status, out, err = self("up", "--detach", "--port", str(self.port), *arguments)
        assert status == 0, f"{out}\n{err}"

    def status(self) -> dict[str, Any]:
        """What `status --json` says."""
        return json.loads(self("status", "--json")[1])

    def supervisor(self) -> int:
        """The process that watches over the others."""
        return int((self.state / "lock").read_text())

    def processes(self) -> list[psutil.Process]:
        """What runs on behalf of this state folder, found by its command line or its environment."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                where = " ".join([*process.cmdline(), *process.environ().values()])
                if str(self.state) in where and process.pid != os.getpid() and "pytest" not in where:
                    found.append(process)
        return found

    def issuer(self) -> Issuer:
        """The issuer whose tokens the ingress takes."""
        return Issuer(self.state / "issuer", topology.read(self._described).tokens)

    def root_certificate(self) -> bytes:
        """The root to trust."""
        return (self.state / "ca.pem").read_bytes()

    @contextlib.contextmanager
    def items(self, token: str | None = "") -> Iterator[ItemServiceStub]:
        """A stub through the ingress, with a good token, another one, or with `None` none."""
        chosen = self.issuer().sign() if token == "" else token
        credentials = grpc.ssl_channel_credentials(self.root_certificate())
        with grpc.secure_channel(f"localhost:{self.port}", credentials) as channel:
            yield ItemServiceStub(_with_token(channel, chosen))


def _with_token(channel: grpc.Channel, token: str | None) -> grpc.Channel:
    return channel if token is None else grpc.intercept_channel(channel, _Bearer(token))


class _Bearer(grpc.UnaryUnaryClientInterceptor):
    def __init__(self, token: str) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),)

    def intercept_unary_unary(self, continuation, client_call_details, request):
        return continuation(client_call_details._replace(metadata=self._metadata), request)


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshCommand]:
    """A running mesh, the same for all tests: leave it as it was."""
    command = MeshCommand(tmp_path_factory.mktemp("mesh"))
    command.up()
    yield command
    assert command("down")[0] == 0


@pytest.fixture(scope="session")
def two_replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshCommand]:
    """A running mesh with two instances of items, for tests that restart what they like and leave all running.

    Certificates live for 20 seconds and connections between proxies for ten: all is renewed all the time.
    """
    described = tmp_path_factory.mktemp("described") / "topology.toml"
    text = TOPOLOGY.read_text()
    assert "certificate_seconds = 3600" in text
    described.write_text(text.replace("certificate_seconds = 3600", "certificate_seconds = 20"))
    command = MeshCommand(tmp_path_factory.mktemp("replicas"), described)
    command.up("--replicas", "items=2")
    yield command
    assert command("down")[0] == 0


@pytest.fixture(scope="session")
def relay_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshCommand]:
    """A running mesh in which a front calls two relays, the same for all tests: leave it as it was."""
    with relays(tmp_path_factory.mktemp("relays"), "--replicas", "relay=2") as command:
        yield command


@pytest.fixture(scope="session")
def tampered_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshCommand]:
    """The same with a caller, a role, a retry and a timeout taken out of the protos."""
    with relays(tmp_path_factory.mktemp("tampered"), env={"TAMPERED_WITHOUT": "caller,role,retry,timeout"}) as command:
        yield command


@contextlib.contextmanager
def relays(state: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[MeshCommand]:
    """A mesh of the relay and the front."""
    command = MeshCommand(state, RELAYS, env)
    command.up(*arguments)
    try:
        yield command
    finally:
        assert command("down")[0] == 0


@pytest.fixture
def own_mesh(tmp_path: Path) -> Iterator[MeshCommand]:
    """A mesh of the test's own, not started; whatever the test did, nothing of it is left."""
    command = MeshCommand(tmp_path / "mesh")
    yield command
    command("down")
    for process in command.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            os.kill(process.pid, signal.SIGKILL)
