"""A mesh in our own process."""

import pytest

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
        yield Mesh(described, state, ledger, Options(), lambda *_: None)


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
