"""A unit is ready when its process answers, and comes back when that dies."""

import asyncio
import os
import signal
import sys
import time

import psutil
import pytest

from localmesh import ports, unit
from localmesh.failure import MeshError
from localmesh.http_status import http_status
from localmesh.ledger import Ledger
from localmesh.process import Command
from localmesh.unit import Unit


@pytest.fixture
async def server(tmp_path):
    """A real HTTP server as a unit."""
    port = ports.free_port()
    serve = ("-m", "http.server", "--bind", ports.LOOPBACK, str(port))
    command = Command(name="web", argv=(sys.executable, *serve), env={}, cwd=tmp_path)

    async def probe() -> None:
        await http_status(port, "/")

    for folder in ("logs", "ledger"):
        (tmp_path / folder).mkdir()
    ledger = Ledger(tmp_path / "ledger" / "processes.json")
    result = Unit("web", lambda: command, probe, tmp_path / "logs" / "web.log", ledger)
    yield result
    await result.stop()


async def _until(condition, within=20.0):
    give_up = time.monotonic() + within
    while not condition():
        assert time.monotonic() < give_up, "it did not happen in time"
        await asyncio.sleep(0.02)


async def test_it_is_ready_once_it_answers(server):
    await server.start()
    assert server.ready
    assert server.pid
    await server.stop()
    assert not server.ready
    assert server.pid == 0


async def test_a_dead_process_is_started_again_and_counted(server):
    await server.start()
    server.watch()
    first = server.pid
    os.kill(first, signal.SIGKILL)
    await _until(lambda: server.ready and server.pid not in {0, first})
    assert server.restarts == 1


@pytest.mark.parametrize("folder", ["logs", "ledger"])
async def test_it_comes_back_once_what_it_writes_to_takes_writes_again(server, tmp_path, folder):
    """A folder that is away refuses as a full disk does."""
    tries = []
    others = set(psutil.Process().children())  # of fixtures

    def children() -> list[int]:
        return [child.pid for child in psutil.Process().children() if child not in others]

    async def prepare() -> None:
        tries.append(children())

    await server.start()
    server.watch()
    server._prepare = prepare
    (tmp_path / folder).rename(tmp_path / "away")
    os.kill(server.pid, signal.SIGKILL)
    await _until(lambda: len(tries) == 3)
    assert tries == [[], [], []]
    (tmp_path / "away").rename(tmp_path / folder)
    await _until(lambda: server.ready and server.pid)
    assert children() == [server.pid]
    await server.stop()
    assert children() == []


async def test_what_is_stopped_has_no_process_however_its_watching_ended(server):
    def refuse() -> None:
        raise OSError("no space left")

    await server.start()
    server.watch()
    first = server.pid
    server.on_change = refuse
    os.kill(first, signal.SIGKILL)
    await _until(lambda: server._watching.done())
    server.on_change = lambda: None
    await server._spawn()
    await server.stop()
    assert server.pid == 0


async def test_it_stays_down_when_it_is_stopped(server):
    await server.start()
    server.watch()
    await server.stop()
    await asyncio.sleep(unit.FIRST_PAUSE * 2)
    assert server.pid == 0


async def test_one_that_dies_at_start_says_why(tmp_path):
    script = "import sys; print('the setting X is missing', file=sys.stderr); sys.exit(2)"
    command = Command(name="bad", argv=(sys.executable, "-c", script), env={})

    async def probe() -> None:
        raise ConnectionError("nobody there")

    bad = Unit("bad", lambda: command, probe, tmp_path / "bad.log")
    with pytest.raises(MeshError, match="bad died while starting, with exit status 2") as raised:
        await bad.start()
    assert raised.value.detail == "the setting X is missing"


async def test_one_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(unit, "START_WITHIN", 0.3)
    command = Command(name="mute", argv=(sys.executable, "-c", "import time; time.sleep(60)"), env={})

    async def probe() -> None:
        raise ConnectionError("nobody there")

    mute = Unit("mute", lambda: command, probe, tmp_path / "mute.log")
    with pytest.raises(MeshError, match="mute was not ready after 0 s: nobody there"):
        await mute.start()
    assert mute.pid == 0


async def test_it_is_prepared_at_every_start_and_waits_while_that_fails(server, tmp_path):
    prepared, refused = [], []

    async def prepare() -> None:
        if refused and len(refused) < 4:
            refused.append("again")
            raise MeshError("who prepares it is away")
        prepared.append(server.pid)

    server._prepare = prepare
    await server.start()
    server.watch()
    refused.append("from now on")
    os.kill(server.pid, signal.SIGKILL)
    await _until(lambda: server.ready and server.restarts == 1)
    assert len(refused) == 4
    assert prepared == [0, 0]


async def test_a_start_that_cannot_be_prepared_says_why(server):
    async def prepare() -> None:
        raise MeshError("who prepares it is away")

    server._prepare = prepare
    with pytest.raises(MeshError, match="who prepares it is away"):
        await server.start()
    assert server.pid == 0


async def test_changes_are_told(server):
    seen = []
    server.on_change = lambda: seen.append((server.pid != 0, server.ready))
    await server.start()
    await server.stop()
    assert seen == [(True, False), (True, True), (False, False)]
