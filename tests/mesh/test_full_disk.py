"""While the disk is full nothing is started, nothing is lost sight of, and all comes back when there is room."""

import contextlib
import os
import signal
import time

import psutil
import pytest

from localmesh.status import Status
from mesh_command import MeshCommand

FILES = ("status.json", "processes.json")
TRIED_FOR = 2.0
"""Seconds in which what died is tried several times."""
BACK_WITHIN = 60.0


@pytest.fixture
def up(own_mesh):
    own_mesh.up("--only", "items")
    return own_mesh


@contextlib.contextmanager
def _full(mesh):
    """In place of the files that tell of the mesh stand folders: they cannot be written, as on a full disk."""
    for name in FILES:
        (mesh.state / name).unlink()
        (mesh.state / name).mkdir()
    try:
        yield
    finally:
        for name in FILES:
            (mesh.state / name).rmdir()


def _until(condition, what):
    give_up = time.monotonic() + BACK_WITHIN
    while not (value := condition()):
        assert time.monotonic() < give_up, what
        time.sleep(0.05)
    return value


def _ready(mesh: MeshCommand, others_than: set[int]) -> bool:
    status = Status.read(mesh.state / "status.json")
    pids = {each.pid for service in status.services for each in (service, service.sidecar) if each is not None}
    return status.ready and not pids & others_than


def _children(mesh):
    return psutil.Process(mesh.supervisor()).children()


def test_what_dies_meanwhile_is_back_once_there_is_room(up):
    service = up.service("items")
    killed = {service["pid"], service["sidecar"]["pid"]}
    before = len(_children(up))
    log = up.state / "logs" / "items-sidecar.log"
    with _full(up):
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        _until(lambda: "ended by SIGKILL" in log.read_text(), "nobody saw that the sidecar died")
        give_up = time.monotonic() + TRIED_FOR
        while time.monotonic() < give_up:
            assert len(_children(up)) <= before
            time.sleep(0.05)
    _until(lambda: _ready(up, killed), "the mesh did not come back")
    assert len(_children(up)) == before
    assert (up.state / "mesh.log").read_text().count("cannot write to the state folder") == 1


def test_it_stops_as_a_whole_and_takes_its_secrets_with_it(up):
    assert (up.state / "secrets").is_dir()
    with _full(up):
        assert up("down")[0] == 0
        assert up.left() == []
        assert not (up.state / "secrets").exists()
