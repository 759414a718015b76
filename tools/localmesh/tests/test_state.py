"""A state folder belongs to one mesh at a time, and a dead one's is cleaned."""

import pytest

from localmesh.failure import MeshError
from localmesh.state import AlreadyRunning, StateFolder


def test_only_one_can_hold_it(tmp_path):
    first, second = StateFolder(tmp_path), StateFolder(tmp_path)
    assert first.holder() is None
    with first.lock():
        assert second.holder() is not None
        with pytest.raises(AlreadyRunning, match="a mesh is already up in"), second.lock():
            pass
    assert second.holder() is None
    with second.lock():
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    state = StateFolder(tmp_path / "file" / "state")
    with (
        pytest.raises(MeshError, match=r"cannot write to the state folder .*file/state: Not a directory"),
        state.lock(),
    ):
        pass


def test_old_logs_and_secrets_are_gone_and_the_rest_is_kept(tmp_path):
    state = StateFolder(tmp_path)
    with state.lock():
        for folder in (state.logs, state.secrets, state.kept_secrets):
            folder.mkdir(exist_ok=True)
            (folder / "file").touch()
    with state.lock():
        kept = [folder.name for folder in (state.logs, state.secrets, state.kept_secrets) if (folder / "file").exists()]
    assert kept == ["kept-secrets"]


def test_a_wiped_folder_keeps_nothing(tmp_path):
    state = StateFolder(tmp_path)
    with state.lock():
        state.kept_secrets.mkdir()
    with state.lock(wipe=True):
        assert not state.kept_secrets.exists()
        assert state.logs.is_dir()


def test_sockets_have_short_paths(tmp_path):
    state = StateFolder(tmp_path / ("deep/" * 30))
    assert len(str(state.sockets() / "health-aggregator-9.sock")) < 108
    state.leave()
