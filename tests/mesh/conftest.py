"""A mesh for all the tests that only look at it, and meshes of their own for those that break them."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from mesh_command import TOPOLOGY, MeshCommand

RELAYS = Path(__file__).parent / "relay" / "topology.toml"


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
    modules = tmp_path_factory.mktemp("modules")
    (modules / "tampered.py").write_text('WITHOUT = frozenset({"caller", "role", "retry", "timeout"})\n')
    path = os.pathsep.join(filter(None, (str(modules), *sys.path)))
    with relays(tmp_path_factory.mktemp("tampered"), env={"PYTHONPATH": path}) as command:
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
