"""The status of a mesh is written whenever that can be, and its writing troubles nobody."""

import asyncio
import contextlib
import json
import os
from pathlib import Path

import pytest

from localmesh import status_files
from localmesh.files import write_atomically
from localmesh.state import StateFolder
from localmesh.status import Status
from localmesh.status_files import StatusFiles

FULL = Path("/dev/full")


@pytest.fixture
def state(tmp_path):
    (tmp_path / "state").mkdir()
    return StateFolder(tmp_path / "state")


def test_a_refusal_is_said_once_each_time_it_begins(state, tmp_path, capsys):
    files = StatusFiles(state, Status, ())
    for _ in range(2):
        state.root.rename(tmp_path / "away")
        files.write()
        files.write()
        (tmp_path / "away").rename(state.root)
        files.write()
        told = capsys.readouterr().err
        assert told.startswith(f"mesh: cannot write to the state folder {state.root}: No such file or directory")
        assert told.count("\n") == 1


async def test_what_was_refused_is_written_when_that_can_be(state, tmp_path, monkeypatch):
    monkeypatch.setattr(status_files, "TRY_AGAIN_EVERY", 0.01)
    files = StatusFiles(state, lambda: Status(ready=True), ())
    state.root.rename(tmp_path / "away")
    files.write()
    catching_up = asyncio.create_task(files.catch_up())
    (tmp_path / "away").rename(state.root)
    async with asyncio.timeout(20):
        while not state.status.exists():  # noqa: ASYNC110 - a file, looked at now and then
            await asyncio.sleep(0.01)
    catching_up.cancel()
    assert json.loads(state.status.read_text())["ready"]


@pytest.mark.skipif(not FULL.exists(), reason="this system has no file that is always full")
def test_one_that_cannot_even_be_said_troubles_nobody(state, tmp_path):
    state.root.rename(tmp_path / "away")
    files = StatusFiles(state, Status, ())
    full = FULL.open("w", buffering=1)  # it refuses to be closed as well
    try:
        with contextlib.redirect_stderr(full):
            files.write()
    finally:
        with contextlib.suppress(OSError):
            full.close()
    assert files._refused


@pytest.mark.skipif(os.name != "posix", reason="a limit on the size of files")
def test_what_is_not_written_to_its_end_leaves_the_old_and_nothing_else(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "status.json"
    write_atomically(path, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_atomically(path, "new" * 4096)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [each.name for each in tmp_path.iterdir()] == ["status.json"]
    assert path.read_text() == "old"
