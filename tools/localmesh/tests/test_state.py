"""A state folder belongs to one mesh at a time, and a dead one's is cleaned."""

import shutil
import tempfile
from pathlib import Path

import pytest

from localmesh import places
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


LONGEST = f"{'x' * 40}-9-outbound.sock"


@pytest.fixture
def temporary(monkeypatch):
    """Sets TMPDIR, as for a new process."""

    def set_to(folder):
        monkeypatch.setenv("TMPDIR", str(folder))
        monkeypatch.setattr(tempfile, "tempdir", None)

    return set_to


@pytest.mark.parametrize("long", [0, 20, 30, 60, 200])
def test_sockets_have_short_paths(tmp_path, temporary, long):
    folder = Path(tempfile.mkdtemp(dir="/tmp")) / ("t" * long)
    folder.mkdir(exist_ok=True)
    temporary(folder)
    state = StateFolder(tmp_path / ("deep/" * 30))
    try:
        with state.lock():
            assert len(str(state.sockets() / LONGEST)) < 104
            assert (folder in state.sockets().parents) == (long < 20)
    finally:
        shutil.rmtree(folder)


def test_sockets_stay_where_they_are_whatever_becomes_of_the_temporary_folder(tmp_path, temporary):
    state, other = StateFolder(tmp_path / "state"), tmp_path / "other"
    with state.lock():
        sockets = state.sockets()
        for name in ("a", "b"):
            temporary(Path(tempfile.mkdtemp(prefix=name, dir="/tmp")))
            assert StateFolder(tmp_path / "state").control == sockets / "control.sock"
        shutil.copytree(state.root, other)
        assert StateFolder(other).control != sockets / "control.sock"
        StateFolder(other).leave()
        assert sockets.is_dir()


def test_that_there_is_no_place_for_sockets_is_said(tmp_path, temporary, monkeypatch):
    long = tmp_path / ("t" * 100)
    long.mkdir()
    temporary(long)
    monkeypatch.setattr(places, "SHORT_TMP", tmp_path / "file")
    (tmp_path / "file").touch()
    with pytest.raises(MeshError, match=f"no place for Unix sockets: neither {long} nor"), StateFolder(long).lock():
        pass
