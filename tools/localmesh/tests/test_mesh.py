"""A mesh in our own process."""

import socket

import pytest

from localmesh import ports
from localmesh.failure import MeshError
from localmesh.files import keep_secret
from localmesh.mesh import Mesh
from localmesh.options import Options
from localmesh.state import StateFolder


@pytest.fixture
def state(tmp_path):
    return StateFolder(tmp_path / "state")


@pytest.fixture
def mesh(described, state):
    """A mesh that is not started."""
    with state.lock() as ledger:
        mesh = Mesh(described, state, ledger, Options(port=ports.free_port()), lambda *_: None)
        yield mesh
        mesh._processes.postgres.discard()


async def test_what_cannot_be_stopped_keeps_nothing_else_from_it(mesh, state):
    valkey = mesh._processes.valkey
    await valkey.start()
    (state.control / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match=r"control\.sock"):
        await mesh.stop()
    assert valkey.unit.pid == 0
    assert not state.secrets.exists()


async def test_secrets_go_before_anything_that_may_fail(mesh, state):
    state.status.mkdir()
    with pytest.raises(OSError, match=r"status\.json"):
        await mesh.stop()
    assert not state.secrets.exists()


async def test_a_start_that_fails_keeps_no_secrets_of_data_that_are_gone(mesh, state):
    postgres = mesh._processes.postgres
    password = state.kept_secrets / "users" / "developer.admin"
    keep_secret(password)
    with socket.create_server((ports.LOOPBACK, postgres.port)), pytest.raises(MeshError, match="postgres died"):
        async with mesh:
            pass
    assert postgres.has_data
    assert not password.exists()


async def test_a_start_that_fails_keeps_the_secrets_of_data_that_are_there(mesh, state):
    postgres = mesh._processes.postgres
    password = state.kept_secrets / "users" / "developer.admin"
    await postgres.prepare()
    kept = keep_secret(password)
    with socket.create_server((ports.LOOPBACK, postgres.port)), pytest.raises(MeshError, match="postgres died"):
        async with mesh:
            pass
    assert password.read_text() == kept
