"""A state folder belongs to one mesh at a time, and a dead one's is cleaned."""

import os
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


@pytest.mark.parametrize(("wipe", "name"), [(False, "logs"), (False, "secrets"), (True, "thesis")])
def test_a_folder_that_is_no_meshs_keeps_what_is_in_it(tmp_path, wipe, name):
    """Such as the working directory, when `--state .` was said."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    with (
        pytest.raises(MeshError, match=f"is not the state folder of a mesh, and a mesh would remove {name} in it"),
        StateFolder(tmp_path).lock(wipe=wipe),
    ):
        pass
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_with_other_things_that_a_mesh_leaves_alone_will_do(tmp_path):
    (tmp_path / "env").mkdir()
    with StateFolder(tmp_path).lock():
        assert (tmp_path / "env").is_dir()


def test_a_copy_by_hard_links_is_not_the_mesh_whose_files_it_has(tmp_path):
    """Whoever holds the one lock file would be stopped by a `down` of the copy."""
    state, copied = StateFolder(tmp_path / "state"), StateFolder(tmp_path / "copy")
    with state.lock():
        shutil.copytree(state.root, copied.root, copy_function=os.link)
        assert state.holder() == os.getpid()
        assert copied.holder() is None
        with pytest.raises(MeshError, match="is a copy by hard links"), copied.lock():
            pass
    with state.lock():
        assert state.holder() == os.getpid()
    state.root.rename(tmp_path / "moved")
    with StateFolder(tmp_path / "moved").lock():
        pass
    shutil.rmtree(tmp_path / "moved")
    with copied.lock():
        assert copied.holder() == os.getpid()


def test_a_folder_that_is_removed_or_moved_is_lost(tmp_path):
    """And what has taken its place is left alone."""
    state, other = StateFolder(tmp_path / "state"), StateFolder(tmp_path / "state")
    with state.lock():
        assert not state.is_lost()
        state.root.rename(tmp_path / "moved")
        assert state.is_lost()
        with other.lock():
            assert state.is_lost()
            assert not other.is_lost()
            state.leave()
            assert other.secrets.is_dir()
            assert other.sockets().is_dir()


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
